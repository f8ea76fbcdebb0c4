package buildinfo

import (
	"runtime/debug"
)

// version is set by the linker, and by nothing else.
var version string

// Info describes a build.
type Info struct {
	Version  string `json:"version"`            // "1.2.3", or "devel"
	Commit   string `json:"commit,omitempty"`   // of the source, where it is known
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the source had changes besides
	Go       string `json:"go"`                 // of the compiler
}

// Read returns what is known of this build.
func Read() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return from(version, info)
}

func from(version string, b *debug.BuildInfo) Info {
	i := Info{Version: version, Go: b.GoVersion}
	if i.Version == "" {
		i.Version = b.Main.Version
	}
	if i.Version == "" || i.Version == "(devel)" {
		i.Version = "devel"
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			i.Commit = s.Value
		case "vcs.time":
			i.Time = s.Value
		case "vcs.modified":
			i.Modified = s.Value == "true"
		}
	}
	return i
}

// String returns the version in one line.
func (i Info) String() string {
	s := i.Version
	if i.Commit != "" {
		s += " (" + i.Commit[:min(len(i.Commit), 12)]
		if i.Modified {
			s += ", modified"
		}
		s += ")"
	}
	return s
}
