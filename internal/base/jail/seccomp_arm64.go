package jail

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// deniedHere are calls that only this kind of machine has.
var deniedHere []int

var pretendedHere []int
