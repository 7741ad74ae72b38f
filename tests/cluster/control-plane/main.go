// This binary contains every program of a local Kubernetes control plane.
//
// The base name of argv[0], or else the first argument, selects the program. The
// programs share most of their code, so one binary needs one link step and much
// less space than one binary for each program.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// A program runs with os.Args[0] set to its name and returns its exit code.
type program struct {
	name string
	run  func() int
}

var programs = []program{
	{"etcd", func() int { etcdmain.Main(os.Args); return 0 }},
	{"kube-apiserver", func() int { return cli.Run(apiserver.NewAPIServerCommand()) }},
	{"kube-controller-manager", func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) }},
	{"kube-scheduler", func() int { return cli.Run(scheduler.NewSchedulerCommand()) }},
	{"kubectl", func() int { return cli.Run(kubectl.NewDefaultKubectlCommand()) }},
	{"kwok", runKwok},
	{"kwok-stages", printStages},
	{"provision-volumes", provisionVolumes},
	{"supervise", supervise},
}

func main() {
	run := find(filepath.Base(os.Args[0]))
	if run == nil && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		run = find(os.Args[0])
	}
	if run == nil {
		var names []string
		for _, p := range programs {
			names = append(names, p.name)
		}
		fmt.Fprintf(os.Stderr, "which program? give one as the first argument: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(run())
}

func find(name string) func() int {
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return programs[i].run
}
