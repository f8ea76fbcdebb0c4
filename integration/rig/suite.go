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
	// Machine says that the root is for a virtual machine: it has the packages of [machineOnly].
	Machine bool
}

// The suites, oldest systemd first.
var (
	Bookworm = Suite{Name: "bookworm", Family: 252}
	Trixie   = Suite{Name: "trixie", Family: 257}
	Forky    = Suite{Name: "forky", Family: 262, Moving: true}

	// TrixieServices is a trixie with more services, for a test that has it for itself.
	TrixieServices = Suite{Name: "trixie", Family: 257, Services: true}
	// ForkyMachine is a forky for the virtual machines of integration/vm; no container is booted of it.
	ForkyMachine = Suite{Name: "forky", Family: 262, Moving: true, Machine: true}
)

// services are what people run that are sandboxed by their packages, or are not simple to start: too large for
// every root.
var services = []string{"postgresql", "redis-server", "haproxy", "unbound", "dns-root-data", "prometheus"}

// machineOnly are what only a system with devices and a kernel of its own has a use for.
var machineOnly = []string{"udev", "keyutils", "apparmor", "selinux-policy-default", "selinux-utils", "policycoreutils", "secilc"}

// Suites lists all suites, oldest systemd first.
func Suites() []Suite { return []Suite{Bookworm, Trixie, Forky} }

// String is the suite's name.
func (s Suite) String() string {
	if s.Services {
		return s.Name + "-services"
	}
	if s.Machine {
		return s.Name + "-machine"
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
	if s.Family == Forky.Family { // what makes images there is the oracle for ours
		all = append(all, "systemd-repart", "squashfs-tools", "cryptsetup-bin", "openssl")
	}
	if s == Trixie { // what installs an .rpm
		all = append(all, "rpm")
	}
	if s.Machine {
		all = append(all, machineOnly...)
	}
	if s.Services {
		all = append(all, services...)
	}
	return all
}
