package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// enterCgroupNamespace is the first stage of the node's first process. It waits
// until it is in its cgroups, which then become the root of its cgroup namespace.
func enterCgroupNamespace() error {
	goAhead := os.NewFile(3, "go-ahead")
	_, _ = io.ReadAll(goAhead)
	goAhead.Close()
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	return syscall.Exec("/proc/self/exe", []string{stageInit, os.Args[1]}, []string{})
}

// runInit is the second stage: the init process of the node.
func runInit() error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(c.Name)); err != nil {
		return err
	}
	if err := mountRoot(c); err != nil {
		return err
	}
	if err := connectInside(&c.Network); err != nil {
		return err
	}
	i := &initProcess{config: c, running: map[int]process{}}
	for _, p := range c.Processes {
		if p.Once {
			i.once++
		}
	}
	for _, p := range c.Processes {
		go i.startWhenPossible(p)
	}
	return i.reap()
}

func connectInside(n *network) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("setting up lo: %w", err)
	}
	if err := configure("eth0", n.Node); err != nil {
		return err
	}
	_, gateway, err := parse(n.Machine)
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: gateway}); err != nil {
		return fmt.Errorf("adding the default route: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

type initProcess struct {
	config *config
	lock   sync.Mutex
	// The processes of the config by their process id. Other children are
	// processes whose parent has ended, such as the shims of containerd.
	running map[int]process
	once    int // the processes that have to end and have not
}

func (i *initProcess) startWhenPossible(p process) {
	for p.Needs != "" {
		conn, err := net.Dial("unix", p.Needs)
		if err == nil {
			conn.Close()
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := i.start(p); err != nil {
		fmt.Fprintf(os.Stderr, "node: starting %s: %v\n", p.Name, err)
		os.Exit(1)
	}
}

func (i *initProcess) start(p process) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Argv[0], p.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{}
	for name, value := range i.config.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	// The lock keeps reap from meeting a process that is not known yet.
	i.lock.Lock()
	defer i.lock.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	i.running[cmd.Process.Pid] = p
	return nil
}

// reap waits for every child. It returns when a process ends that must not end.
func (i *initProcess) reap() error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ECHILD): // nothing is started yet
			time.Sleep(10 * time.Millisecond)
			continue
		case err != nil:
			return err
		}
		i.lock.Lock()
		p, ours := i.running[pid]
		delete(i.running, pid)
		i.lock.Unlock()
		if !ours {
			continue
		}
		if !p.Once || status.ExitStatus() != 0 {
			return fmt.Errorf("%s ended (exit code %d, signal %d); the end of %s:\n%s",
				p.Name, status.ExitStatus(), status.Signal(), p.Log, tail(p.Log))
		}
		if i.once--; i.once == 0 {
			if err := os.WriteFile(i.config.Started, nil, 0o644); err != nil {
				return err
			}
		}
	}
}

func tail(path string) string {
	text, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// maskSysctls runs a program for which some files below /proc/sys already contain
// what the program wants to write: the arguments are NAME=VALUE…, --, PROGRAM,
// ARGUMENT…. These settings belong to the machine and not to the node. Only this
// program sees the other files, in a mount namespace of its own, and its mounts
// still reach the node.
func maskSysctls() error {
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_FS | syscall.CLONE_NEWNS); err != nil {
		return err
	}
	if err := syscall.Mount("", "/proc", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("making /proc private: %w", err)
	}
	folder, err := os.MkdirTemp("/run", "sysctl-")
	if err != nil {
		return err
	}
	for n, arg := range os.Args[1:] {
		if arg == "--" {
			program := os.Args[n+2:]
			return syscall.Exec(program[0], program, os.Environ())
		}
		name, value, _ := strings.Cut(arg, "=")
		path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			continue // a kernel without this setting
		}
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, path, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("masking %s: %w", path, err)
		}
	}
	return errors.New("the program is missing")
}
