package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
)

// The node's first process goes through two stages, because a process cannot be in
// a cgroup namespace before it is in its cgroups.
const (
	stageCgroup = "node-stage-cgroup"
	stageInit   = "node-stage-init"
)

// runNode starts the node's first process in namespaces of its own, and connects
// the node with the machine. It ends when that process ends. After SIGTERM, it
// kills the process, and with it every process of the node. The kernel does the
// same when this process is killed. Only empty cgroups can be left in that case,
// and the next node removes them.
func runNode() error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	// The first process gets its parent-death signal when the thread that started it ends.
	runtime.LockOSThread()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)

	groups, err := makeCgroups()
	if err != nil {
		return err
	}
	defer groups.remove()
	wait, goAhead, err := os.Pipe()
	if err != nil {
		return err
	}
	defer goAhead.Close()
	first := exec.Command("/proc/self/exe", os.Args[1])
	first.Args[0] = stageCgroup
	first.Stdout, first.Stderr = os.Stdout, os.Stderr
	first.ExtraFiles = []*os.File{wait}
	first.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if err := first.Start(); err != nil {
		return fmt.Errorf("starting a process in namespaces of its own: %w", err)
	}
	wait.Close()
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	err = func() error {
		if err := groups.add(first.Process.Pid); err != nil {
			return err
		}
		if err := connect(&c.Network, first.Process.Pid); err != nil {
			return err
		}
		return forward(c.Network.Listen, c.Network.To)
	}()
	if err == nil {
		goAhead.Close()
		select {
		case e := <-ended:
			return errors.Join(errors.New("the first process ended"), e)
		case <-stop:
		}
	}
	_ = first.Process.Kill()
	// The first process has ended when every process of its namespace has.
	<-ended
	return err
}

// connect makes the two ends of the link. The link and its routes disappear with
// the network namespace of the node.
func connect(n *network, pid int) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: n.Link},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("making the link %s: %w", n.Link, err)
	}
	if err := configure(n.Link, n.Machine); err != nil {
		return err
	}
	_, gateway, err := parse(n.Node)
	if err != nil {
		return err
	}
	for _, route := range n.Routes {
		_, to, err := net.ParseCIDR(route)
		if err != nil {
			return fmt.Errorf("network.routes: %w", err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: to, Gw: gateway}); err != nil {
			return fmt.Errorf("adding a route to %s: %w", route, err)
		}
	}
	return nil
}

// configure gives a link its address, and sets it up.
func configure(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("looking for the link %s: %w", name, err)
	}
	addr, _, err := parse(address)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", name, address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting up %s: %w", name, err)
	}
	return nil
}

func parse(address string) (*netlink.Addr, net.IP, error) {
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return nil, nil, fmt.Errorf("network: %q is no address with a prefix length: %w", address, err)
	}
	return addr, addr.IP, nil
}

// forward passes every connection to listen on to another address.
func forward(listen, to string) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(from, to)
		}
	}()
	return nil
}

func pass(from net.Conn, to string) {
	defer from.Close()
	onward, err := net.Dial("tcp", to)
	if err != nil {
		return // the other side sees a closed connection, as it does without a server
	}
	defer onward.Close()
	half := func(into, outOf net.Conn, done chan<- struct{}) {
		_, _ = io.Copy(into, outOf)
		_ = into.(*net.TCPConn).CloseWrite()
		done <- struct{}{}
	}
	done := make(chan struct{}, 2)
	go half(onward, from, done)
	go half(from, onward, done)
	<-done
	<-done
}
