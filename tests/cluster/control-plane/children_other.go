//go:build !linux

package main

import "syscall"

// ownGroup puts a child in a process group of its own. Only Linux can also tie
// its life to ours; elsewhere killing the supervisor itself leaves children.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
