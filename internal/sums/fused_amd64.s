//go:build !purego

// SHA-256 (FIPS 180-4, 6.2) and SHA-1 (6.1) of the same blocks in one loop,
// with the SHA extensions. Each hash alone waits for its own last result most of
// the time; side by side they fill each other's gaps.
//
// X0        SHA-256 message + constant (implied by SHA256RNDS2)
// X1, X2    SHA-256 state as ABEF and CDGH
// X3 - X6   SHA-256 message schedule, a ring of four
// X7        scratch
// X8        SHA-1 state ABCD, A in the highest lane
// X9, X10   SHA-1 E of the group now and of the next one, highest lane
// X11 - X14 SHA-1 message schedule, a ring of four
// X15       byte order mask
// The states from before the block wait on the stack (unaligned, so they are
// added by way of a register).

#include "textflag.h"

// A group is four rounds. W0 is its message, W1 the next one's, W3 the last one's.
// LOAD fetches 16 message bytes for both hashes, which differ in the order of words.
#define LOAD(OFF, W, V) \
	MOVOU  OFF(SI), W; \
	PSHUFB X15, W;     \
	PSHUFD $0x1b, W, V

#define ROUNDS256A(I, W0) \
	MOVO        W0, X0;         \
	PADDD       (I*16)(AX), X0; \
	SHA256RNDS2 X0, X1, X2

#define ROUNDS256B \
	PSHUFD      $0x0e, X0, X0; \
	SHA256RNDS2 X0, X2, X1

#define SCHEDULE256(W0, W1, W3) \
	MOVO       W0, X7;     \
	PALIGNR    $4, W3, X7; \
	PADDD      X7, W1;     \
	SHA256MSG2 W0, W1

// ROUNDS1 leaves the E of the next group in EB.
#define ROUNDS1(F, V0, EA, EB) \
	SHA1NEXTE V0, EA;  \
	MOVO      X8, EB;  \
	SHA1RNDS4 F, EA, X8

// In SHA-1's schedule, V1 gets its last part while V3 and V2 get their first ones.
#define SCHEDULE1(V0, V1, V2, V3) \
	SHA1MSG2 V0, V1; \
	SHA1MSG1 V0, V3; \
	PXOR     V0, V2

// GROUP is four rounds of each hash from the middle of the block.
#define GROUP(I, W0, W1, W3, F, V0, V1, V2, V3, EA, EB) \
	ROUNDS256A(I, W0);         \
	ROUNDS1(F, V0, EA, EB);    \
	SCHEDULE256(W0, W1, W3);   \
	SCHEDULE1(V0, V1, V2, V3); \
	ROUNDS256B;                \
	SHA256MSG1 W0, W3

// func blocks(s *state, p []byte)
TEXT ·blocks(SB), NOSPLIT, $64-32
	MOVQ s+0(FP), DI
	MOVQ p_base+8(FP), SI
	MOVQ p_len+16(FP), DX
	SHRQ $6, DX
	JZ   done
	LEAQ k256<>(SB), AX
	MOVOU mask<>(SB), X15

	// DCBA, HGFE -> ABEF, CDGH (highest lane first)
	MOVOU   (DI), X1
	MOVOU   16(DI), X2
	PSHUFD  $0xb1, X1, X1
	PSHUFD  $0x1b, X2, X2
	MOVO    X1, X7
	PALIGNR $8, X2, X1
	PBLENDW $0xf0, X7, X2

	MOVOU  32(DI), X8
	PSHUFD $0x1b, X8, X8
	MOVL   48(DI), CX
	MOVQ   CX, X9
	PSLLO  $12, X9

loop:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X8, 32(SP)
	MOVOU X9, 48(SP)

	// 0
	LOAD(0, X3, X11)
	ROUNDS256A(0, X3)
	PADDD     X11, X9
	MOVO      X8, X10
	SHA1RNDS4 $0, X9, X8
	ROUNDS256B

	// 1
	LOAD(16, X4, X12)
	ROUNDS256A(1, X4)
	ROUNDS1($0, X12, X10, X9)
	SHA1MSG1   X12, X11
	ROUNDS256B
	SHA256MSG1 X4, X3

	// 2
	LOAD(32, X5, X13)
	ROUNDS256A(2, X5)
	ROUNDS1($0, X13, X9, X10)
	SHA1MSG1   X13, X12
	PXOR       X13, X11
	ROUNDS256B
	SHA256MSG1 X5, X4

	// 3
	LOAD(48, X6, X14)
	GROUP( 3, X6, X3, X5, $0, X14, X11, X12, X13, X10, X9)
	GROUP( 4, X3, X4, X6, $0, X11, X12, X13, X14, X9, X10)
	GROUP( 5, X4, X5, X3, $1, X12, X13, X14, X11, X10, X9)
	GROUP( 6, X5, X6, X4, $1, X13, X14, X11, X12, X9, X10)
	GROUP( 7, X6, X3, X5, $1, X14, X11, X12, X13, X10, X9)
	GROUP( 8, X3, X4, X6, $1, X11, X12, X13, X14, X9, X10)
	GROUP( 9, X4, X5, X3, $1, X12, X13, X14, X11, X10, X9)
	GROUP(10, X5, X6, X4, $2, X13, X14, X11, X12, X9, X10)
	GROUP(11, X6, X3, X5, $2, X14, X11, X12, X13, X10, X9)
	GROUP(12, X3, X4, X6, $2, X11, X12, X13, X14, X9, X10)

	// 13: from here on SHA-256 needs no more first parts of its schedule.
	ROUNDS256A(13, X4)
	ROUNDS1($2, X12, X10, X9)
	SCHEDULE256(X4, X5, X3)
	SCHEDULE1(X12, X13, X14, X11)
	ROUNDS256B

	// 14
	ROUNDS256A(14, X5)
	ROUNDS1($2, X13, X9, X10)
	SCHEDULE256(X5, X6, X4)
	SCHEDULE1(X13, X14, X11, X12)
	ROUNDS256B

	// 15: SHA-256's last, SHA-1 has five to go.
	ROUNDS256A(15, X6)
	ROUNDS1($3, X14, X10, X9)
	SCHEDULE1(X14, X11, X12, X13)
	ROUNDS256B
	MOVOU 0(SP), X3
	MOVOU 16(SP), X4
	PADDD X3, X1
	PADDD X4, X2

	// 16 - 19
	ROUNDS1($3, X11, X9, X10)
	SCHEDULE1(X11, X12, X13, X14)
	ROUNDS1($3, X12, X10, X9)
	SHA1MSG2 X12, X13
	PXOR     X12, X14
	ROUNDS1($3, X13, X9, X10)
	SHA1MSG2 X13, X14
	ROUNDS1($3, X14, X10, X9)
	MOVOU     48(SP), X5
	MOVOU     32(SP), X6
	SHA1NEXTE X5, X9
	PADDD     X6, X8

	ADDQ $64, SI
	DECQ DX
	JNZ  loop

	PSHUFD  $0x1b, X1, X1
	PSHUFD  $0xb1, X2, X2
	MOVO    X1, X7
	PBLENDW $0xf0, X2, X1
	PALIGNR $8, X7, X2
	MOVOU   X1, (DI)
	MOVOU   X2, 16(DI)

	PSHUFD $0x1b, X8, X8
	MOVOU  X8, 32(DI)
	PSRLO  $12, X9
	MOVQ   X9, CX
	MOVL   CX, 48(DI)

done:
	RET

// func hasSHA() bool
// CPUID leaf 7 says SHA (EBX 29), leaf 1 SSSE3 (ECX 9) and SSE4.1 (ECX 19).
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JB   no
	MOVL $1, AX
	XORL CX, CX
	CPUID
	ANDL $0x00080200, CX
	CMPL CX, $0x00080200
	JNE  no
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $29, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)

no:
	RET

DATA mask<>+0(SB)/8, $0x0405060700010203
DATA mask<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL mask<>(SB), RODATA|NOPTR, $16

// The linker puts a symbol of this size on a 32-byte boundary, which PADDD from
// memory relies on.
DATA k256<>+0(SB)/8, $0x71374491428a2f98
DATA k256<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA k256<>+16(SB)/8, $0x59f111f13956c25b
DATA k256<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA k256<>+32(SB)/8, $0x12835b01d807aa98
DATA k256<>+40(SB)/8, $0x550c7dc3243185be
DATA k256<>+48(SB)/8, $0x80deb1fe72be5d74
DATA k256<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA k256<>+64(SB)/8, $0xefbe4786e49b69c1
DATA k256<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA k256<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA k256<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA k256<>+96(SB)/8, $0xa831c66d983e5152
DATA k256<>+104(SB)/8, $0xbf597fc7b00327c8
DATA k256<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA k256<>+120(SB)/8, $0x1429296706ca6351
DATA k256<>+128(SB)/8, $0x2e1b213827b70a85
DATA k256<>+136(SB)/8, $0x53380d134d2c6dfc
DATA k256<>+144(SB)/8, $0x766a0abb650a7354
DATA k256<>+152(SB)/8, $0x92722c8581c2c92e
DATA k256<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA k256<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA k256<>+176(SB)/8, $0xd6990624d192e819
DATA k256<>+184(SB)/8, $0x106aa070f40e3585
DATA k256<>+192(SB)/8, $0x1e376c0819a4c116
DATA k256<>+200(SB)/8, $0x34b0bcb52748774c
DATA k256<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA k256<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA k256<>+224(SB)/8, $0x78a5636f748f82ee
DATA k256<>+232(SB)/8, $0x8cc7020884c87814
DATA k256<>+240(SB)/8, $0xa4506ceb90befffa
DATA k256<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL k256<>(SB), RODATA|NOPTR, $256
