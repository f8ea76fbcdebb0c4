package rig

// A Suite is one Debian release whose systemd the tests run under.
type Suite struct {
	Name string // Debian's code name
	// Family is the systemd version that the suite is known for; [Container.SystemdVersion] is what it has.
	Family int
	// Moving says that the suite still receives new versions: Family is then the least that is accepted.
	Moving bool
	// Services says that the root also has the packages of [services].
	Services bool
}

// The suites, oldest systemd first.
var (
	Bookworm = Suite{Name: "bookworm", Family: 252}
	Trixie   = Suite{Name: "trixie", Family: 257}
	Forky    = Suite{Name: "forky", Family: 262, Moving: true}

	// TrixieServices is a trixie with more services, for a test that has it for itself.
	TrixieServices = Suite{Name: "trixie", Family: 257, Services: true}
)

// services are what people run that are sandboxed by their packages, or are not simple to start: too large for
// every root.
var services = []string{"postgresql", "redis-server", "haproxy", "unbound", "dns-root-data", "prometheus"}

// Suites lists all suites, oldest systemd first.
func Suites() []Suite { return []Suite{Bookworm, Trixie, Forky} }

// String is the suite's name.
func (s Suite) String() string {
	if s.Services {
		return s.Name + "-services"
	}
	return s.Name
}

// packages is what every root has beyond Debian's essential set. Libraries that systemd loads with dlopen
// are only Recommends there, so they are named.
func (s Suite) packages() []string {
	all := []string{
		"systemd", "systemd-sysv", "systemd-container", "dbus", "libnss-systemd",
		"libseccomp2", "libkmod2", "libcryptsetup12",
		"util-linux", "mount", "libcap2-bin",
		"nginx", "openssh-server",
		"apt", "curl", "erofs-utils", // docs/tutorial.md
	}
	if s == Forky { // what makes images there is the oracle for ours
		all = append(all, "systemd-repart", "squashfs-tools", "cryptsetup-bin", "openssl")
	}
	if s == Trixie { // what installs an .rpm
		all = append(all, "rpm")
	}
	if s.Services {
		all = append(all, services...)
	}
	return all
}
