package settings

// sandboxKeys are the settings that Forbids judges.
var sandboxKeys = []string{
	"CapabilityBoundingSet", "SystemCallFilter", "RestrictNamespaces", "RestrictFileSystems",
	"PrivateUsers", "PrivatePIDs", "RootImage", "RootDirectory", "RootMStack",
	"AppArmorProfile", "SELinuxContext", "SecureBits", "PAMName",
}
