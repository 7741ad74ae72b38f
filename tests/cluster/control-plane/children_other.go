//go:build !linux

package main

import "syscall"

// ownGroup puts a child in its own process group. Only Linux can also end the
// child with us. On other systems, killing the supervisor leaves its children.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
