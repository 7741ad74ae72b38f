package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// A config describes the whole node. The harness writes it as JSON.
type config struct {
	Name    string   `json:"name"`    // of the node, and its host name
	Folder  string   `json:"folder"`  // everything that the node writes is here, at the same path in the node
	Visible []string `json:"visible"` // further folders of the machine that the node can read, at the same paths
	// The file that appears when every process that ends by itself has done so.
	Started   string            `json:"started"`
	Network   network           `json:"network"`
	Env       map[string]string `json:"env"` // of every process
	Processes []process         `json:"processes"`
}

// A network is the link between the machine and the node.
type network struct {
	Link    string   `json:"link"`    // the name of the machine's end
	Machine string   `json:"machine"` // the address of the machine's end, with the length of its prefix
	Node    string   `json:"node"`    // the address of the node's end, with the length of its prefix
	Routes  []string `json:"routes"`  // what the machine reaches through the node: pods and Services
	// The API server listens on the loopback address of the machine, where the
	// node cannot reach it. Connections to Listen are passed on to it.
	Listen string `json:"listen"`
	To     string `json:"to"`
}

// A process of the node. A process that is not Once must not end.
type process struct {
	Name  string   `json:"name"`
	Argv  []string `json:"argv"`
	Log   string   `json:"log"`
	Needs string   `json:"needs"` // a socket that must accept a connection first
	Once  bool     `json:"once"`
}

func readConfig() (*config, error) {
	if len(os.Args) != 2 {
		return nil, fmt.Errorf("usage: %s CONFIG.json", os.Args[0])
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return nil, err
	}
	c := &config{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("%s: %w", os.Args[1], err)
	}
	return c, nil
}
