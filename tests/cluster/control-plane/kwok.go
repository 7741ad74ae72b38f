package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodeheartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
	"sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/cmd"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/signals"
)

// runKwok does the same as kwok's own main, with one difference. The Kubernetes
// libraries in this binary have put a --version flag of their own type on the
// process-wide flag set. Cobra would merge it into kwok's root command, which has
// a boolean flag of that name. Therefore, kwok gets an empty flag set.
func runKwok() int {
	pflag.CommandLine = pflag.NewFlagSet("kwok", pflag.ExitOnError)
	shared := pflag.NewFlagSet("global", pflag.ContinueOnError)
	shared.ParseErrorsAllowlist.UnknownFlags = true
	shared.Usage = func() {}

	ctx, _ := log.InitFlags(signals.SetupSignalContext(), shared)
	ctx, err := config.InitFlags(ctx, shared)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kwok: reading flags and configuration:", err)
		return 1
	}
	root := cmd.NewCommand(ctx)
	root.PersistentFlags().AddFlagSet(shared)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kwok:", err)
		return 1
	}
	return 0
}

// printStages writes kwok's own stages as YAML documents. They belong to the
// version of kwok in this binary, so the binary prints them.
func printStages() int {
	fmt.Println(strings.Join([]string{
		nodefast.DefaultNodeInit,
		nodeheartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady,
		podfast.DefaultPodComplete,
		podfast.DefaultPodDelete,
	}, "\n---\n"))
	return 0
}
