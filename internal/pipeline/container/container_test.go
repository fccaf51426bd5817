package container

import (
	"fmt"
	"testing"
	"time"
)

func TestOptionsAreReadAsAShellWould(t *testing.T) {
	o, err := ParseOptions(`--health-cmd "pg_isready -U 'a b'" --health-interval=10s --health-timeout 5s --health-retries 5 --name x --cpus 0.5 -m 512m -u 1000:1000 -e "A=b c"`)
	if err != nil {
		t.Fatal(err)
	}
	if o.HealthCmd != "pg_isready -U 'a b'" || o.Health.Interval != 10*time.Second || o.Health.Retries != 5 || o.User != "1000:1000" || o.Memory != 512<<20 || o.CPU != 0.5 || fmt.Sprint(o.Env) != "[A=b c]" || fmt.Sprint(o.Unused) != "[--name]" {
		t.Errorf("options %+v", o)
	}
	for _, text := range []string{"--privileged", "--network host", "--cap-add ALL", "--device=/dev/sda", "--health-interval soon", "--memory lots", `--health-cmd "open`, "--user", "-v /:/host", "--cpus -1", "plain"} {
		if _, err := ParseOptions(text); err == nil {
			t.Errorf("ParseOptions(%q) went through", text)
		}
	}
}

func TestPortsAndVolumes(t *testing.T) {
	got, err := ParsePorts([]string{"5432", "15432:5432", "127.0.0.1:80:8080/tcp"})
	if err != nil || fmt.Sprint(got) != "[{0 5432} {15432 5432} {80 8080}]" {
		t.Errorf("ParsePorts = %v, %v", got, err)
	}
	for _, text := range []string{"x", "", "0", "70000", "1:2:3:4", "53/udp", "8080-8090", "-1"} {
		if got, err := ParsePorts([]string{text}); err == nil {
			t.Errorf("ParsePorts(%q) = %v; want a refusal", text, got)
		}
	}
	for text, want := range map[string]Volume{
		"v:/data":        {Name: "v", Target: "/data", Write: true},
		"./sub:/data:ro": {Path: "./sub", Target: "/data"},
		"/cache":         {Target: "/cache", Write: true},
	} {
		if got, err := ParseVolume(text); err != nil || got != want {
			t.Errorf("ParseVolume(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"v:data", "v:/", "v:/x:rox", "a b:/x", ":/x", "a:b:c:d"} {
		if got, err := ParseVolume(text); err == nil {
			t.Errorf("ParseVolume(%q) = %+v; want a refusal", text, got)
		}
	}
}

func FuzzOptions(f *testing.F) {
	f.Add(`--health-cmd "pg_isready -U 'a b'" -m 512m`)
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = ParseOptions(text)
		_, _ = ParsePorts([]string{text})
		_, _ = ParseVolume(text)
	})
}
