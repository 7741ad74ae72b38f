package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const readOnlyBind = syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY

// The folders of the machine's programs and libraries.
var programs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"}

// The files of the machine that its programs and libraries read.
var settings = []string{"/etc/ld.so.cache", "/etc/os-release", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services"}

// mountRoot gives the node a file system of its own. It has the machine's programs
// for reading, the node's folder, and nothing else of the machine. So a hostPath
// volume belongs to the node, and nothing that the node writes is left.
func mountRoot(c *config) error {
	// Nothing that is mounted from here on reaches the machine.
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	hierarchies, err := ownCgroups()
	if err != nil {
		return err
	}
	root := filepath.Join(c.Folder, "node-root")
	if err := mountNew("tmpfs", root, "mode=755"); err != nil {
		return err
	}
	for _, folder := range programs {
		if err := takeOver(root, folder); err != nil {
			return err
		}
	}
	for _, folder := range c.Visible {
		if err := bind(folder, root+folder, true); err != nil {
			return err
		}
	}
	if err := bind(c.Folder, root+c.Folder, false); err != nil {
		return err
	}
	if err := bind("/dev", root+"/dev", false); err != nil {
		return err
	}
	for _, folder := range []string{"kubelet", "containerd", "log"} {
		at := map[string]string{"kubelet": "/var/lib/kubelet", "containerd": "/var/lib/containerd", "log": "/var/log"}[folder]
		from := filepath.Join(c.Folder, "node", folder)
		if err := os.MkdirAll(from, 0o755); err != nil {
			return err
		}
		if err := bind(from, root+at, false); err != nil {
			return err
		}
	}
	if err := writeSettings(root, c); err != nil {
		return err
	}
	for _, m := range [][3]string{{"proc", "/proc", ""}, {"sysfs", "/sys", ""}, {"tmpfs", "/sys/fs/cgroup", "mode=755"}, {"tmpfs", "/run", "mode=755"}} {
		if err := mountNew(m[0], root+m[1], m[2]); err != nil {
			return err
		}
	}
	for _, h := range hierarchies {
		if err := mountCgroup(root, h.controllers); err != nil {
			return err
		}
	}
	return changeRoot(root)
}

// takeOver shows a folder of the machine in the node, or the symbolic link that is there.
func takeOver(root, folder string) error {
	target, err := os.Readlink(folder)
	switch {
	case err == nil:
		return os.Symlink(target, root+folder)
	case errors.Is(err, os.ErrNotExist):
		return nil
	default:
		return bind(folder, root+folder, true)
	}
}

func bind(from, to string, readOnly bool) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("showing %s in the node: %w", from, err)
	}
	if readOnly {
		if err := syscall.Mount("", to, "", readOnlyBind, ""); err != nil {
			return fmt.Errorf("making %s read-only: %w", from, err)
		}
	}
	return nil
}

func mountNew(kind, at, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(kind, at, kind, 0, options); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", kind, at, err)
	}
	return nil
}

// mountCgroup mounts a hierarchy, whose root is the root of the cgroup namespace.
func mountCgroup(root, controllers string) error {
	at := root + "/sys/fs/cgroup/"
	if controllers == "" {
		return mountNew("cgroup2", at+"unified", "")
	}
	if name, named := strings.CutPrefix(controllers, "name="); named {
		return mountNew("cgroup", at+name, "none,"+controllers)
	}
	return mountNew("cgroup", at+controllers, controllers)
}

func writeSettings(root string, c *config) error {
	for _, folder := range []string{"/etc", "/root", "/tmp", "/opt"} {
		if err := os.MkdirAll(root+folder, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(root+"/tmp", 0o1777); err != nil {
		return err
	}
	for _, file := range settings {
		if text, err := os.ReadFile(file); err == nil {
			if err := os.WriteFile(root+file, text, 0o644); err != nil {
				return err
			}
		}
	}
	machine := fmt.Sprintf("%032x\n", os.Getpid())
	for file, text := range map[string]string{
		"/etc/passwd":     "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
		"/etc/group":      "root:x:0:\nnogroup:x:65534:\n",
		"/etc/hosts":      "127.0.0.1 localhost " + c.Name + "\n",
		"/etc/machine-id": machine,
		// The pods' DNS server has nobody to ask about other names.
		"/etc/resolv.conf": "",
	} {
		if err := os.WriteFile(root+file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// changeRoot makes a folder the root, and removes the machine's from the node.
func changeRoot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("removing the machine's root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// The mounts that the kubelet makes reach the containers.
	if err := syscall.Mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC, ""); err != nil {
		return fmt.Errorf("sharing the mounts: %w", err)
	}
	return nil
}
