package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// enforcePolicies enforces the NetworkPolicies of the cluster for the pods of this
// node, by rules of nftables. The arguments are a kubeconfig and the range of the
// pods. It ends with an error when it cannot enforce, and the node ends with it.
func enforcePolicies() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: %s KUBECONFIG POD-RANGE", os.Args[0])
	}
	podRange, err := netip.ParsePrefix(os.Args[2])
	if err != nil {
		return err
	}
	// Without these, packets between two pods of the bridge pass no rule.
	for _, family := range []string{"iptables", "ip6tables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+family, []byte("1"), 0); err != nil {
			return fmt.Errorf("filtering between pods of one bridge: %w", err)
		}
	}
	// Until the objects are known, no pod is.
	applied := rules(&objects{}, podRange)
	if err := apply(applied); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	namespaces := factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()

	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // noted already
		}
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { note() },
			UpdateFunc: func(any, any) { note() },
			DeleteFunc: func(any) { note() },
		})
		if err != nil {
			return err
		}
	}
	ctx := context.Background()
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("listing %v failed", kind)
		}
	}
	for {
		var now objects
		var errs [3]error
		now.pods, errs[0] = pods.Lister().List(labels.Everything())
		now.namespaces, errs[1] = namespaces.Lister().List(labels.Everything())
		now.policies, errs[2] = policies.Lister().List(labels.Everything())
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		if wanted := rules(&now, podRange); wanted != applied {
			began := time.Now()
			if err := apply(wanted); err != nil {
				return err
			}
			applied = wanted
			fmt.Printf("%s applied the rules for %d NetworkPolicies and %d pods in %v\n",
				began.Format(time.RFC3339Nano), len(now.policies), len(now.pods), time.Since(began))
		}
		<-changed
	}
}

// apply replaces all rules in one transaction.
func apply(table string) error {
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(table)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, output, table)
	}
	return nil
}
