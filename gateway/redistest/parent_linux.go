package redistest

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the server when the test's process ends
// in a way that runs no Cleanup, such as a panic or a timeout.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
