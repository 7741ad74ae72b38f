package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionVolumes provisions volumes for the claims of our StorageClasses. A claim
// can be bound under either binding mode. The volumes of simulated nodes are of the
// kind hostPath. Those of a real node are local volumes, whose owner group the
// kubelet sets as pods want it.
func provisionVolumes() int {
	flags := flag.NewFlagSet("provision-volumes", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "file that says how to reach the API server")
	name := flags.String("provisioner", "", "the provisioner that StorageClasses name")
	root := flags.String("root", "", "folder that the volumes are under")
	node := flags.String("node", "", "the real node that has the folder; simulated nodes need none")
	qps := flags.Float64("qps", 500, "requests a second to the API server")
	_ = flags.Parse(os.Args[1:])
	if *kubeconfig == "" || *name == "" || !filepath.IsAbs(*root) {
		fmt.Fprintln(os.Stderr, "provision-volumes: --kubeconfig, --provisioner and an absolute --root are needed")
		return 2
	}

	rest, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		fmt.Fprintln(os.Stderr, "provision-volumes: --kubeconfig:", err)
		return 1
	}
	rest.QPS = float32(*qps)
	rest.Burst = int(*qps * 2)
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		fmt.Fprintln(os.Stderr, "provision-volumes: --kubeconfig:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	controller.NewProvisionController(ctx, client, *name, folders{*root, *node},
		controller.LeaderElection(false),
		controller.Threadiness(8),
		controller.MetricsPort(0),
	).Run(ctx)
	return 0
}

// folders gives each volume its own folder under root, with the name of the volume.
type folders struct{ root, node string }

func (f folders) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if o.PVC.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("spec.selector: this provisioner makes each volume for its claim, leave the selector out")
	}
	spec := corev1.PersistentVolumeSpec{
		PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
		AccessModes:                   o.PVC.Spec.AccessModes,
		VolumeMode:                    o.PVC.Spec.VolumeMode,
		MountOptions:                  o.StorageClass.MountOptions,
		Capacity: corev1.ResourceList{
			corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage],
		},
	}
	path := filepath.Join(f.root, o.PVName)
	if f.node == "" {
		kind := corev1.HostPathDirectoryOrCreate
		spec.HostPath = &corev1.HostPathVolumeSource{Path: path, Type: &kind}
	} else {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
		spec.Local = &corev1.LocalVolumeSource{Path: path}
		spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
				Key:      corev1.LabelHostname,
				Operator: corev1.NodeSelectorOpIn,
				Values:   []string{f.node},
			}}}},
		}}
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec:       spec,
	}, controller.ProvisioningFinished, nil
}

// Delete removes the volume's folder. The path is computed from the volume's name
// and not read from the object, so an edited object cannot point elsewhere.
func (f folders) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(f.root, filepath.Base(volume.Name)))
}
