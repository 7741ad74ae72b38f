package main

import "syscall"

// ownGroup puts a child in a process group of its own, and has the kernel kill
// it when the thread that started it ends: so even a supervisor that is killed
// leaves nothing behind.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
