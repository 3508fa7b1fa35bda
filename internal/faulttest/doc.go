// Package faulttest is what the fault campaigns are made of: capagent as a child
// process that can be killed at any moment or at any system call, the sandbox
// beside it, captures that are dropped into a watched folder in every way that
// capture tools do it, file systems that lose power, fill up or fail, networks
// that lose packets, and one verdict over all of it: every capture that was
// dropped is in exactly one session, byte for byte.
//
// Nothing here is part of the agent. The campaigns are in faulttest/crash.
package faulttest
