// This binary contains the programs of a real Kubernetes node that are built from
// Kubernetes' own module, and the program that gives the node its namespaces.
//
// The base name of argv[0] selects the program. The node is a part of the control
// plane's module, so both are built from the same packages at the same versions.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	var err error
	switch name := filepath.Base(os.Args[0]); name {
	case "kubelet":
		os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background())))
	case "kube-proxy":
		os.Exit(cli.Run(proxy.NewProxyCommand()))
	case "node":
		err = runNode()
	case stageCgroup:
		err = enterCgroupNamespace()
	case stageInit:
		err = runInit()
	case "network-policies":
		err = enforcePolicies()
	case "masked-sysctls":
		err = maskSysctls()
	default:
		err = fmt.Errorf("%q is no program of a node", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}
