package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A session is made by crypto/tls, whose key shares and signatures come from
// the system's random source in any case. So sessions are recorded once and
// played back.
//
//go:embed sessions/*.txt
var recordings embed.FS

// session is a recorded TLS connection.
type session struct {
	flights []flight
	keyLog  []byte // NSS key log lines
}

// flight is what one side wrote at once.
type flight struct {
	by   int
	data []byte
}

func loadSession(name string) (session, error) {
	text, err := recordings.ReadFile("sessions/" + name + ".txt")
	if err != nil {
		return session{}, err
	}
	s, err := parseSession(string(text))
	if err != nil {
		return session{}, fmt.Errorf("session %s: %w", name, err)
	}
	return s, nil
}

// parseSession reads lines of "client HEX", "server HEX" and "key LINE".
func parseSession(text string) (session, error) {
	var s session
	for line := range strings.Lines(text) {
		kind, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind == "key" {
			s.keyLog = append(s.keyLog, value+"\n"...)
			continue
		}
		data, err := hex.DecodeString(value)
		if err != nil {
			return s, err
		}
		by := byClient
		if kind == "server" {
			by = byServer
		}
		s.flights = append(s.flights, flight{by, data})
	}
	return s, nil
}

// replay records the session on an open connection.
func (c *conn) replay(s session) {
	for _, f := range s.flights {
		c.send(f.by, f.data)
	}
}

// sessionConfigs are the clients of the recorded sessions by name.
func sessionConfigs() map[string]*tls.Config {
	const web = "http/1.1"
	return map[string]*tls.Config{
		// The hello of a current browser: a post-quantum key share makes it longer than a segment.
		"tls13":  {ServerName: "portal.example.com", NextProtos: []string{"h2", web}},
		"tls12":  {ServerName: "mail.example.org", NextProtos: []string{web}, MaxVersion: tls.VersionTLS12},
		"beacon": {ServerName: "sync.example.net", NextProtos: []string{web}, CurvePreferences: []tls.CurveID{tls.X25519}},
	}
}

// recordSessions writes new recordings of all sessions into dir.
func recordSessions(dir string) error {
	for name, config := range sessionConfigs() {
		text, err := recordSession(config)
		if err != nil {
			return fmt.Errorf("record %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".txt"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// recordSession makes one HTTP exchange over TLS through a pipe.
func recordSession(client *tls.Config) ([]byte, error) {
	certificate, roots, err := serverCertificate(client.ServerName)
	if err != nil {
		return nil, err
	}
	var log recording
	client.RootCAs, client.KeyLogWriter = roots, keyLog{&log}
	client.Time = func() time.Time { return incidentDay }
	server := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"http/1.1"}, Time: client.Time}

	a, b := net.Pipe()
	clientEnd := tls.Client(&tapped{a, "client", &log}, client)
	serverEnd := tls.Server(&tapped{b, "server", &log}, server)
	const response = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
	served := make(chan error, 1)
	go func() {
		_, err := serverEnd.Read(make([]byte, 4096))
		if err == nil {
			_, err = io.WriteString(serverEnd, response)
		}
		served <- err
	}()
	_, err = clientEnd.Write(request("GET", client.ServerName, "/check", "demo-client/1.0"))
	if err == nil {
		_, err = io.ReadFull(clientEnd, make([]byte, len(response)))
	}
	if err != nil {
		_ = a.Close()
		return nil, errors.Join(err, <-served)
	}
	if err := <-served; err != nil {
		return nil, err
	}
	// The server must be reading for the pipe to take the client's goodbye.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = serverEnd.Read(make([]byte, 1))
	}()
	if err := clientEnd.Close(); err != nil {
		return nil, err
	}
	<-ended
	return log.text.Bytes(), nil
}

// recording is the text of a session as both ends write it.
type recording struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recording) line(kind, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.text, "%s %s\n", kind, value)
}

// tapped records what is written to a connection.
type tapped struct {
	net.Conn
	kind string
	log  *recording
}

func (t *tapped) Write(p []byte) (int, error) {
	t.log.line(t.kind, hex.EncodeToString(p))
	return t.Conn.Write(p)
}

type keyLog struct{ log *recording }

func (k keyLog) Write(p []byte) (int, error) {
	k.log.line("key", strings.TrimSpace(string(p)))
	return len(p), nil
}

// serverCertificate makes a throw-away certificate for one host; its key is kept nowhere.
func serverCertificate(host string) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(17),
		Subject:      pkix.Name{CommonName: host, Organization: []string{"Capture demonstration"}},
		DNSNames:     []string{host},
		NotBefore:    incidentDay.AddDate(0, -1, 0), NotAfter: incidentDay.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, nil
}
