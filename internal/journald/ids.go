package journald

// The message ids, sd-id128(3), of what share/extexec.catalog explains.
const (
	IDExchanged    = "caafe0fce2f443c4833cbc3474860d4f"
	IDRolledBack   = "7d3cbd440c624f6d830f15778a7de54d"
	IDRepaired     = "228d44e636a84a378224dd5fcb935a14"
	IDRefused      = "73bf29a2a23343b5b0676a6458bc89d5"
	IDTakenBack    = "99cd454e70b24ee3aff4c0698302b35d"
	IDUndoFailed   = "b0b25943a11f467a9983c53829427560"
	IDStartRefused = "01ffaac021b64c02bccd0f269c87ad83"
	IDFellBack     = "da106c552c064c6e8608590d6899ccf2"
)
