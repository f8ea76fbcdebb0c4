// Package wire is what the host and the guest of package vm say to each other: the
// host gives a [Plan], as JSON in the initramfs, the guest answers with one [Event]
// a line on its second serial port.
package wire

// Where things are in the guest.
const (
	PlanFile    = "/plan.json"     // in the initramfs
	ModulesDir  = "/modules"       // in the initramfs
	PayloadDir  = "/payload"       // in the initramfs, and bound there on the root disk
	RootDisk    = "/dev/vda"       // ext4
	ResultsPort = "/dev/ttyS1"     // events
	NewRoot     = "/newroot"       // in the initramfs
	TaskLoop    = "guest: tasks"   // argv[0] of the process that runs the tasks
	TasksFile   = "/run/plan.json" // the plan, on the root disk
	GuestFile   = "/run/guest"     // this program there, where systemd is process 1
	UnitDir     = "/run/systemd/system"
	TasksUnit   = "vm-tasks.service" // what runs the tasks then
)

// A Plan is all that a guest does before it powers off.
type Plan struct {
	Modules []Module // to be loaded, in this order
	Tasks   []Task   // to be run, one after the other
	Systemd bool     // is process 1, and has a service run the tasks
}

// A Module is a kernel module.
type Module struct {
	File       string // below ModulesDir
	Name       string // with underscores
	Compressed bool
}

// A Task is a command.
type Task struct {
	Name string
	Argv []string
	Env  []string
	Dir  string
}

// An Event is what happened in the guest. The last one has Done.
type Event struct {
	Task   string `json:",omitempty"` // the name of a task
	Output string `json:",omitempty"` // that it wrote to standard output or error
	Ended  bool   `json:",omitempty"` // it has
	Status int    `json:",omitempty"` // its exit status then; 128 and the signal's number when a signal ended it
	Error  string `json:",omitempty"` // the guest itself is at fault
	Done   bool   `json:",omitempty"` // all tasks have ended
	Kernel string `json:",omitempty"` // uname -r, in the first event
}
