package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A hierarchy of cgroups, in version 1 or 2.
type hierarchy struct {
	controllers string // as in /proc/self/cgroup: empty for version 2
	path        string // the folder of this process's cgroup
}

// The cgroups of one node: a folder below this process's cgroup in each hierarchy.
type cgroups []hierarchy

const groupPrefix = "paddock-node-"

// makeCgroups makes the cgroups of a node. Its name contains the number of this
// process, so that the cgroups of nodes that were killed can be told apart.
func makeCgroups() (cgroups, error) {
	own, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	var made cgroups
	for _, h := range own {
		removeLeft(h.path)
		folder := filepath.Join(h.path, groupPrefix+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(folder, 0o755); err != nil && !os.IsExist(err) {
			made.remove()
			return nil, fmt.Errorf("making a cgroup: %w", err)
		}
		made = append(made, hierarchy{h.controllers, folder})
		if h.controllers != "cpuset" {
			continue
		}
		// A new cpuset is empty, and nothing can run in it.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(h.path, file))
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, file), value, 0)
			}
			if err != nil {
				made.remove()
				return nil, fmt.Errorf("copying %s: %w", file, err)
			}
		}
		_ = os.WriteFile(filepath.Join(folder, "cgroup.clone_children"), []byte("1"), 0)
	}
	return made, nil
}

func (c cgroups) add(pid int) error {
	for _, h := range c {
		if err := os.WriteFile(filepath.Join(h.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("moving process %d into a cgroup: %w", pid, err)
		}
	}
	return nil
}

// remove removes the cgroups. A process that has just ended can hold one for a moment.
func (c cgroups) remove() {
	for _, h := range c {
		for range 50 {
			if removeTree(h.path) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

func removeTree(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			_ = removeTree(filepath.Join(folder, entry.Name()))
		}
	}
	return syscall.Rmdir(folder)
}

// removeLeft removes the cgroups of nodes whose process does not exist any more.
func removeLeft(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, groupPrefix+"*"))
	for _, folder := range left {
		pid := strings.TrimPrefix(filepath.Base(folder), groupPrefix)
		// A zombie has no program. Nobody may have waited for it.
		if _, err := os.Readlink("/proc/" + pid + "/exe"); errors.Is(err, os.ErrNotExist) {
			_ = removeTree(folder) // fails if processes are in it
		}
	}
}

// ownCgroups reads this process's cgroup in every mounted hierarchy.
func ownCgroups() ([]hierarchy, error) {
	mounts, err := cgroupMounts()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var own []hierarchy
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		mount, ok := mounts[fields[1]]
		if !ok {
			continue // this hierarchy is not mounted here, so nobody uses it
		}
		path := strings.TrimPrefix(fields[2], strings.TrimSuffix(mount.root, "/"))
		own = append(own, hierarchy{fields[1], filepath.Join(mount.point, path)})
	}
	return own, nil
}

type mount struct{ root, point string }

// cgroupMounts gives the mount of each hierarchy by its controllers.
func cgroupMounts() (map[string]mount, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	mounts := map[string]mount{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !found || len(left) < 5 || len(right) < 3 {
			continue
		}
		switch right[0] {
		case "cgroup2":
			mounts[""] = mount{left[3], left[4]}
		case "cgroup":
			mounts[controllers(right[2])] = mount{left[3], left[4]}
		}
	}
	return mounts, lines.Err()
}

// controllers picks the controllers from the options of a mount.
func controllers(options string) string {
	var found []string
	for option := range strings.SplitSeq(options, ",") {
		switch {
		case option == "rw", option == "ro", option == "none", option == "xattr", option == "noprefix",
			option == "clone_children", strings.HasPrefix(option, "release_agent="):
		default:
			found = append(found, option)
		}
	}
	return strings.Join(found, ",")
}
