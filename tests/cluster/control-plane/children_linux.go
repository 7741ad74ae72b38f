package main

import "syscall"

// ownGroup puts a child in its own process group. The kernel also kills the child
// when the thread that started it ends, so no child is left even if the
// supervisor itself is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
