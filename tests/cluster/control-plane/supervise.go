package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A request is one line of JSON on standard input, or on the socket of a detached
// supervisor. Each request gets one reply with its id. The reply to a wait comes
// when the process ends.
type request struct {
	ID     uint64            `json:"id"`
	Op     string            `json:"op"` // start, signal, wait, detach, stop
	Name   string            `json:"name"`
	Argv   []string          `json:"argv"`
	Env    map[string]string `json:"env"` // the whole environment: nothing is inherited
	Dir    string            `json:"dir"`
	Log    string            `json:"log"`    // file to which standard output and error are appended
	Tidies bool              `json:"tidies"` // at the end, the process gets SIGTERM and time to remove what it made
	Signal string            `json:"signal"` // a key of sendable
	Socket string            `json:"socket"` // detach: the socket on which to listen
	Keep   []string          `json:"keep"`   // stop: entries of the scratch folder to keep
}

// Signals have names here, because their numbers differ between systems.
var sendable = map[string]syscall.Signal{
	"SIGCONT": syscall.SIGCONT,
	"SIGHUP":  syscall.SIGHUP,
	"SIGINT":  syscall.SIGINT,
	"SIGKILL": syscall.SIGKILL,
	"SIGSTOP": syscall.SIGSTOP,
	"SIGTERM": syscall.SIGTERM,
}

type reply struct {
	ID    uint64 `json:"id"`
	Error string `json:"error,omitempty"`
	Pid   int    `json:"pid,omitempty"`
	Exit  *exit  `json:"exit,omitempty"`
}

// An exit describes the end of a process: by itself with a code, or by a signal.
type exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal"`
}

type child struct {
	pid     int
	tidies  bool
	ended   *exit
	waiters []func(reply)
}

type incoming struct {
	request
	answer func(reply)
}

type ended struct {
	child *child
	exit  exit
}

type supervisor struct {
	scratch  string
	children map[string]*child
	requests chan incoming
	ends     chan ended
	detached net.Listener
}

// supervise starts programs on request, and ensures that none outlives its owner.
// Standard input closes when the owner ends in any way. Then, and on SIGTERM or
// SIGINT, all programs are killed and the scratch folder is removed. After a
// detach request, the supervisor listens on a socket instead of standard input,
// for a cluster that keeps running.
func supervise() int {
	flags := flag.NewFlagSet("supervise", flag.ExitOnError)
	scratch := flags.String("scratch", "", "folder to remove at the end")
	_ = flags.Parse(os.Args[1:])

	// The children receive their parent-death signal when the thread that started
	// them ends. The main thread lives as long as the process, so it starts them all.
	runtime.LockOSThread()
	s := &supervisor{
		scratch:  *scratch,
		children: map[string]*child{},
		requests: make(chan incoming),
		ends:     make(chan ended),
	}
	// The signals are caught and not ignored, because children inherit ignored signals.
	discard := make(chan os.Signal, 1)
	signal.Notify(discard, syscall.SIGHUP, syscall.SIGPIPE)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	closed := make(chan struct{})
	go func() {
		s.serve(os.Stdin, os.Stdout)
		close(closed)
	}()

	for {
		select {
		case in := <-s.requests:
			if in.Op == "stop" {
				s.end(in.Keep)
				in.answer(reply{ID: in.ID})
				return 0
			}
			s.handle(in)
		case e := <-s.ends:
			s.reaped(e)
		case <-closed:
			closed = nil
			if s.detached == nil {
				s.end(nil)
				return 0
			}
		case <-discard:
		case <-stop:
			s.end(nil)
			return 0
		}
	}
}

// serve reads requests until the other side closes or sends an invalid request.
func (s *supervisor) serve(from io.Reader, to io.Writer) {
	var lock sync.Mutex
	encoder := json.NewEncoder(to)
	answer := func(r reply) {
		lock.Lock()
		defer lock.Unlock()
		_ = encoder.Encode(r) // the other side may be gone
	}
	decoder := json.NewDecoder(from)
	for {
		in := incoming{answer: answer}
		if err := decoder.Decode(&in.request); err != nil {
			if !errors.Is(err, io.EOF) {
				fmt.Fprintln(os.Stderr, "supervise: reading a request:", err)
			}
			return
		}
		s.requests <- in
	}
}

func (s *supervisor) handle(in incoming) {
	out := reply{ID: in.ID}
	c := s.children[in.Name]
	var err error
	switch {
	case in.Op == "start":
		out.Pid, err = s.start(in.request)
	case in.Op == "detach":
		err = s.detach(in.Socket)
	case in.Op != "signal" && in.Op != "wait":
		err = fmt.Errorf("op: %q is unknown, it is one of start, signal, wait, detach, stop", in.Op)
	case c == nil:
		err = fmt.Errorf("name: no process %q was started", in.Name)
	case in.Op == "wait" && c.ended == nil:
		c.waiters = append(c.waiters, func(r reply) { r.ID = in.ID; in.answer(r) })
		return
	case in.Op == "wait":
		out.Exit = c.ended
	case c.ended != nil:
		err = fmt.Errorf("name: process %q has ended", in.Name)
	case sendable[in.Signal] == 0:
		err = fmt.Errorf("signal: %q is not among those that can be sent", in.Signal)
	default:
		err = syscall.Kill(-c.pid, sendable[in.Signal])
	}
	if err != nil {
		out.Error = err.Error()
	}
	in.answer(out)
}

func (s *supervisor) start(r request) (int, error) {
	if c := s.children[r.Name]; c != nil && c.ended == nil {
		return 0, fmt.Errorf("name: process %q is running", r.Name)
	}
	if r.Name == "" || len(r.Argv) == 0 {
		return 0, errors.New("name, argv: both are needed")
	}
	log, err := os.OpenFile(r.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, fmt.Errorf("log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Env = []string{} // not nil, which would inherit our environment
	for name, value := range r.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = r.Dir, log, log, ownGroup()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("argv: %w", err)
	}
	c := &child{pid: cmd.Process.Pid, tidies: r.Tidies}
	s.children[r.Name] = c
	go func() {
		_ = cmd.Wait() // the process state contains the exit status
		e := exit{Code: cmd.ProcessState.ExitCode()}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			e.Signal = int(status.Signal())
		}
		s.ends <- ended{c, e}
	}()
	return c.pid, nil
}

func (s *supervisor) reaped(e ended) {
	e.child.ended = &e.exit
	for _, tell := range e.child.waiters {
		tell(reply{Exit: &e.exit})
	}
	e.child.waiters = nil
}

// detach makes the supervisor outlive its owner and listen on a socket instead.
func (s *supervisor) detach(path string) error {
	if s.detached != nil {
		return errors.New("op: detached already")
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	s.detached = listener
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s.serve(conn, conn)
			}()
		}
	}()
	return nil
}

// end kills every process group, waits for the processes, and removes the scratch
// folder except for the entries to keep. A process that tidies up is asked to end,
// and is killed only if it does not.
func (s *supervisor) end(keep []string) {
	// A killed process can stay in the kernel while its disk operations run.
	patience := 10 * time.Second
	for _, c := range s.children {
		switch {
		case c.ended != nil:
		case c.tidies:
			patience = 30 * time.Second
			_ = syscall.Kill(c.pid, syscall.SIGTERM)
		default:
			_ = syscall.Kill(-c.pid, syscall.SIGKILL)
		}
	}
	s.await(patience)
	if s.running() > 0 {
		for _, c := range s.children {
			if c.ended == nil {
				_ = syscall.Kill(-c.pid, syscall.SIGKILL)
			}
		}
		s.await(10 * time.Second)
	}
	if s.detached != nil {
		s.detached.Close()
	}
	if s.scratch != "" {
		sweep(s.scratch, keep)
	}
}

// await waits until no process is running, or until the time is over.
func (s *supervisor) await(limit time.Duration) {
	over := time.After(limit)
	for s.running() > 0 {
		select {
		case e := <-s.ends:
			s.reaped(e)
		case <-over:
			return
		}
	}
}

func (s *supervisor) running() int {
	running := 0
	for _, c := range s.children {
		if c.ended == nil {
			running++
		}
	}
	return running
}

func sweep(folder string, keep []string) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	kept := map[string]bool{}
	for _, name := range keep {
		kept[name] = true
	}
	for _, entry := range entries {
		if !kept[entry.Name()] {
			_ = os.RemoveAll(filepath.Join(folder, entry.Name()))
		}
	}
	_ = os.Remove(folder) // fails if an entry was kept
}
