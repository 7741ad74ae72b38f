// A user of upstream's Go client: claim, run, write, read and list through the gateway, and again after a suspend. Prints
// one JSON object.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/agent-sandbox/clients/go/sandbox"
)

const big = 50 << 20

func main() {
	kubeconfig, namespace, pool, url := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Minute)
	defer stop()
	seen, err := use(ctx, kubeconfig, namespace, pool, url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		os.Exit(1)
	}
}

func use(ctx context.Context, kubeconfig, namespace, pool, url string) (map[string]any, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	client, err := sandbox.NewClient(ctx, sandbox.Options{APIURL: url, RestConfig: config, Quiet: true})
	if err != nil {
		return nil, err
	}
	box, err := client.CreateSandbox(ctx, pool, namespace)
	if err != nil {
		return nil, fmt.Errorf("creating: %w", err)
	}
	defer client.DeleteSandbox(context.WithoutCancel(ctx), box.ClaimName(), namespace)
	seen := map[string]any{"claim": box.ClaimName(), "sandbox": box.SandboxName()}
	if err := commands(ctx, box, seen); err != nil {
		return nil, err
	}
	if err := files(ctx, box, seen); err != nil {
		return nil, err
	}
	first := box.PodIP()
	if err := suspended(ctx, objects, namespace, box.SandboxName()); err != nil {
		return nil, err
	}
	// The client still sends the address of the pod that is gone.
	result, err := box.Run(ctx, "cat '/workspace/a b/c.txt'")
	if err != nil {
		return nil, fmt.Errorf("running after the suspend: %w", err)
	}
	seen["after_suspend"] = map[string]any{"stdout": result.Stdout, "stale": box.PodIP() == first}
	return seen, nil
}

func commands(ctx context.Context, box *sandbox.Sandbox, seen map[string]any) error {
	outcomes := map[string]any{}
	for name, command := range map[string]string{
		"kernel":  "cat /proc/version",
		"failure": "sh -c 'echo out; echo err >&2; exit 3'",
		"missing": "no-such-program",
	} {
		result, err := box.Run(ctx, command)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		outcomes[name] = result
	}
	began := time.Now()
	if _, err := box.Run(ctx, "sleep 35"); err != nil {
		return fmt.Errorf("a long command: %w", err)
	}
	outcomes["long_s"] = time.Since(began).Seconds()
	seen["commands"] = outcomes
	return nil
}

func files(ctx context.Context, box *sandbox.Sandbox, seen map[string]any) error {
	// The client writes plain names alone, and reads any path.
	if err := box.Write(ctx, "c d.txt", []byte("written through the gateway")); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if _, err := box.Run(ctx, "sh -c \"mkdir -p 'a b' && mv 'c d.txt' 'a b/c.txt'\""); err != nil {
		return fmt.Errorf("moving: %w", err)
	}
	content, err := box.Read(ctx, "a b/c.txt")
	if err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	listed, err := box.List(ctx, "a b")
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	there, err := box.Exists(ctx, "a b/c.txt")
	if err != nil {
		return fmt.Errorf("looking for a file: %w", err)
	}
	gone, err := box.Exists(ctx, "a b/d.txt")
	if err != nil {
		return fmt.Errorf("looking for no file: %w", err)
	}
	_, missing := box.Read(ctx, "a b/d.txt")
	var failure *sandbox.HTTPError
	status := 0
	if errors.As(missing, &failure) {
		status = failure.StatusCode
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), big/16)
	if err := box.Write(ctx, "large.bin", large); err != nil {
		return fmt.Errorf("writing a large file: %w", err)
	}
	back, err := box.Read(ctx, "large.bin")
	if err != nil {
		return fmt.Errorf("reading a large file: %w", err)
	}
	seen["files"] = map[string]any{
		"content": string(content), "listed": listed, "exists": there, "exists_not": gone, "missing": status,
		"large": sha256.Sum256(large) == sha256.Sum256(back),
	}
	return nil
}

// suspended waits until the idle policy has suspended a Sandbox.
func suspended(ctx context.Context, objects dynamic.Interface, namespace, name string) error {
	kind := schema.GroupVersionResource{Group: "agents.x-k8s.io", Version: "v1beta1", Resource: "sandboxes"}
	for {
		found, err := objects.Resource(kind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("looking at the Sandbox: %w", err)
		}
		by, _, _ := unstructured.NestedString(found.Object, "status", "suspendedBy")
		if by == "Idle" && terminated(found) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Sandbox was not suspended: %w", ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func terminated(found *unstructured.Unstructured) bool {
	conditions, _, _ := unstructured.NestedSlice(found.Object, "status", "conditions")
	for _, condition := range conditions {
		if fields, ok := condition.(map[string]any); ok && fields["type"] == "Suspended" {
			return fields["reason"] == "PodTerminated"
		}
	}
	return false
}
