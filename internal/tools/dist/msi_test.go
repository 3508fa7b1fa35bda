package main

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVersionsThatWindowsCanCompare(t *testing.T) {
	for version, want := range map[string]string{
		"1.2.3": "1.2.3", "0.1.0-dev": "0.1.0", "1.2.3-4-gabcdef0-dirty": "1.2.3", "1.2.65535": "1.2.65535",
		"1.2": "", "1.2.3.4": "", "256.0.0": "", "1.2.65536": "", "a.b.c": "", "-1.0.0": "", "": "",
	} {
		if got, err := msiVersion(version); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", version, got, err)
		}
	}
}

func TestGUIDsAreTheSameForTheSameWords(t *testing.T) {
	a := guid("product", "1.2.3", "amd64")
	if !regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}$`).MatchString(a) {
		t.Error(a)
	}
	if guid("product", "1.2.3", "amd64") != a || guid("product", "1.2.3", "arm64") == a || guid("product", "1.2.4", "amd64") == a {
		t.Error("the words do not make it")
	}
}

func TestTimesOfTheClockAreReplaced(t *testing.T) {
	now, made := time.Unix(1_900_000_000, 0), time.Unix(1_800_000_000, 0)
	property := func(at time.Time) []byte {
		return binary.LittleEndian.AppendUint64([]byte{0x40, 0, 0, 0}, fileTime(at))
	}
	other := property(now.Add(-time.Hour))
	text := slices.Concat([]byte("before"), property(now), other, property(now.Add(time.Second)), []byte{0x40, 0, 0, 0, 1})
	n := replaceTimes(text, now.Add(-time.Second), now.Add(2*time.Second), made)
	if want := slices.Concat([]byte("before"), property(made), other, property(made), []byte{0x40, 0, 0, 0, 1}); n != 2 || !bytes.Equal(text, want) {
		t.Errorf("%d replaced\n%x\n%x", n, text, want)
	}
	if at := fileTime(time.Unix(0, 0)); at != 116444736000000000 { // MS-DTYP 2.3.3: 100 ns since 1601
		t.Error(at)
	}
}

func TestTheInstallersSourceIsXML(t *testing.T) {
	about := msiAbout{Version: "1.2.3", Upgrade: upgradeCode, Product: guid("a"), Texts: []string{"LICENSE", "README.md"}, Docs: []string{"a.md"}}
	text, err := about.source(packaging + "windows/capagent.wxs")
	if err != nil {
		t.Fatal(err)
	}
	for dec := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{`Source="docs/a.md" KeyPath="yes"`, `Source="README.md"/>`, `Version="1.2.3"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestSigningIsAsked(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"": {"CAPAGENT_SIGN_TIMESTAMP": "http://ts.example"},
		"sign -h sha256 -n capagent -pkcs12 a.p12 -readpass pw -ts http://ts.example": {
			"CAPAGENT_SIGN_CERT": "a.p12", "CAPAGENT_SIGN_PASSWORD_FILE": "pw", "CAPAGENT_SIGN_TIMESTAMP": "http://ts.example",
		},
		"sign -h sha256 -n capagent -certs a.pem -key k.pem -time 5": {"CAPAGENT_SIGN_CERT": "a.pem", "CAPAGENT_SIGN_KEY": "k.pem"},
	} {
		if got := strings.Join(signArgs(func(name string) string { return env[name] }, 5), " "); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
