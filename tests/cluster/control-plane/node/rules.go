package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The objects on which the rules depend.
type objects struct {
	pods       []*core.Pod
	namespaces []*core.Namespace
	policies   []*networking.NetworkPolicy
}

// A direction of connections, as a pod sees them.
type direction struct {
	chain string // the prefix of the pods' chains
	own   string // how nft calls the pod's address
	peer  string // how nft calls the other side's address
	kind  networking.PolicyType
}

var (
	egress  = direction{"egress", "ip saddr", "ip daddr", networking.PolicyTypeEgress}
	ingress = direction{"ingress", "ip daddr", "ip saddr", networking.PolicyTypeIngress}
)

// rules returns the whole table of nftables, which replaces the earlier one.
//
// A pod whose address is not known yet connects to nothing, because its policies
// are not known either. Connections from the machine, which enter through eth0,
// count as those of the node: both may connect to every pod. The node has no
// addresses of IPv6, so every packet of it is between link-local addresses.
func rules(o *objects, podRange netip.Prefix) string {
	w := &writer{objects: o, pods: map[netip.Addr]*core.Pod{}, namespaces: map[string]labels.Set{}}
	for _, namespace := range o.namespaces {
		w.namespaces[namespace.Name] = namespace.Labels
	}
	for _, pod := range o.pods {
		address, ok := addressOf(pod)
		// The address of a pod that ended may be given to another one before that is reported.
		if other := w.pods[address]; ok && (other == nil || younger(pod, other)) {
			w.pods[address] = pod
		}
	}
	for address := range w.pods {
		w.addresses = append(w.addresses, address)
	}
	slices.SortFunc(w.addresses, netip.Addr.Compare)

	w.line("table inet paddock-policies")
	w.line("delete table inet paddock-policies")
	w.line("table inet paddock-policies {")
	if len(w.addresses) > 0 {
		w.line("set known { type ipv4_addr; elements = { %s }; }", joined(w.addresses))
	} else {
		w.line("set known { type ipv4_addr; }")
	}
	w.dispatch(egress, fmt.Sprintf("ip saddr %s drop", podRange))
	// A connection that is refused is tried again sooner than one without an answer.
	w.dispatch(ingress, fmt.Sprintf("ip daddr %s meta l4proto tcp reject with tcp reset", podRange),
		fmt.Sprintf("ip daddr %s drop", podRange))
	w.chain("forward",
		"type filter hook forward priority filter; policy accept;",
		"meta nfproto ipv6 drop",
		"ct state established,related accept",
		"jump egress",
		`iifname "eth0" accept`,
		"jump ingress")
	w.chain("input",
		"type filter hook input priority filter; policy accept;",
		`iifname != "cni0" accept`,
		"meta nfproto ipv6 drop",
		"ct state established,related accept",
		"jump egress")
	w.line("}")
	return w.text.String()
}

// addressOf returns the address of a pod that may be selected by a policy.
func addressOf(pod *core.Pod) (netip.Addr, bool) {
	ended := pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
	address, err := netip.ParseAddr(pod.Status.PodIP)
	return address, err == nil && address.Is4() && !ended && !pod.Spec.HostNetwork
}

func younger(pod, other *core.Pod) bool {
	if pod.CreationTimestamp.Equal(&other.CreationTimestamp) {
		return pod.UID > other.UID
	}
	return other.CreationTimestamp.Before(&pod.CreationTimestamp)
}

type writer struct {
	*objects
	pods       map[netip.Addr]*core.Pod
	addresses  []netip.Addr // of the pods, sorted
	namespaces map[string]labels.Set
	text       strings.Builder
}

func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.text, format+"\n", args...)
}

func (w *writer) chain(name string, lines ...string) {
	w.line("chain %s {", name)
	for _, line := range lines {
		w.line("\t%s", line)
	}
	w.line("}")
}

// dispatch writes the chain of a direction, and those of the pods that are isolated
// in it. The last lines are for pods that are not known yet.
func (w *writer) dispatch(d direction, unknown ...string) {
	var targets []string
	for _, address := range w.addresses {
		pod := w.pods[address]
		selecting := w.selecting(d, pod)
		if len(selecting) == 0 {
			continue
		}
		name := fmt.Sprintf("%s-%s", d.chain, address)
		targets = append(targets, fmt.Sprintf("%s : goto %s", address, name))
		// A pod can always connect to itself, also by a Service.
		lines := []string{fmt.Sprintf("%s %s return", d.peer, address)}
		for _, policy := range selecting {
			lines = append(lines, w.allowed(d, policy, pod)...)
		}
		w.chain(name, append(lines, "drop")...)
	}
	var lines []string
	if len(targets) > 0 {
		lines = append(lines, fmt.Sprintf("%s vmap { %s }", d.own, strings.Join(targets, ", ")))
	}
	lines = append(lines, d.own+" @known return")
	w.chain(d.chain, append(lines, unknown...)...)
}

// selecting returns the policies that isolate a pod in a direction, sorted by name.
func (w *writer) selecting(d direction, pod *core.Pod) []*networking.NetworkPolicy {
	var found []*networking.NetworkPolicy
	for _, policy := range w.policies {
		if policy.Namespace == pod.Namespace && slices.Contains(policy.Spec.PolicyTypes, d.kind) &&
			matches(&policy.Spec.PodSelector, pod.Labels) {
			found = append(found, policy)
		}
	}
	slices.SortFunc(found, func(a, b *networking.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// allowed returns the lines that let connections of a pod pass.
func (w *writer) allowed(d direction, policy *networking.NetworkPolicy, pod *core.Pod) []string {
	var lines []string
	rule := func(peers []networking.NetworkPolicyPeer, ports []networking.NetworkPolicyPort) {
		for _, to := range w.sides(d, policy.Namespace, peers) {
			if len(ports) == 0 {
				lines = append(lines, to.match+" return")
			}
			for _, port := range ports {
				lines = append(lines, w.withPort(d, to, port, pod)...)
			}
		}
	}
	switch d.kind {
	case networking.PolicyTypeEgress:
		for _, r := range policy.Spec.Egress {
			rule(r.To, r.Ports)
		}
	case networking.PolicyTypeIngress:
		for _, r := range policy.Spec.Ingress {
			rule(r.From, r.Ports)
		}
	}
	return lines
}

// A side is the other side of a connection: how nft matches it, and its pods.
type side struct {
	match string
	pods  []netip.Addr
}

// sides returns the other sides that a rule names. A rule without peers names all.
func (w *writer) sides(d direction, namespace string, peers []networking.NetworkPolicyPeer) []side {
	if len(peers) == 0 {
		return []side{{pods: w.addresses}}
	}
	var found []side
	for _, peer := range peers {
		if block := peer.IPBlock; block != nil {
			if s, ok := w.block(d, block); ok {
				found = append(found, s)
			}
			continue
		}
		var pods []netip.Addr
		for _, address := range w.addresses {
			pod := w.pods[address]
			inNamespace := pod.Namespace == namespace
			if peer.NamespaceSelector != nil {
				inNamespace = matches(peer.NamespaceSelector, w.namespaces[pod.Namespace])
			}
			if inNamespace && (peer.PodSelector == nil || matches(peer.PodSelector, pod.Labels)) {
				pods = append(pods, address)
			}
		}
		if len(pods) > 0 {
			found = append(found, side{fmt.Sprintf("%s { %s }", d.peer, joined(pods)), pods})
		}
	}
	return found
}

// block returns the addresses of IPv4 in a block.
func (w *writer) block(d direction, block *networking.IPBlock) (side, bool) {
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil || !cidr.Addr().Is4() {
		return side{}, false
	}
	s := side{match: fmt.Sprintf("%s %s", d.peer, cidr.Masked())}
	var except []netip.Prefix
	for _, text := range block.Except {
		if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr().Is4() {
			except = append(except, prefix.Masked())
			s.match += fmt.Sprintf(" %s != %s", d.peer, prefix.Masked())
		}
	}
	inside := func(address netip.Addr) bool {
		return cidr.Contains(address) && !slices.ContainsFunc(except, func(p netip.Prefix) bool { return p.Contains(address) })
	}
	for _, address := range w.addresses {
		if inside(address) {
			s.pods = append(s.pods, address)
		}
	}
	return s, true
}

// withPort returns the lines for one port. A named port is that of a container of the
// pod to which the connection goes.
func (w *writer) withPort(d direction, to side, port networking.NetworkPolicyPort, pod *core.Pod) []string {
	protocol := core.ProtocolTCP
	if port.Protocol != nil {
		protocol = *port.Protocol
	}
	name := strings.ToLower(string(protocol))
	switch {
	case port.Port == nil:
		return []string{fmt.Sprintf("%s meta l4proto %s return", to.match, name)}
	case port.Port.Type == intstr.Int && port.EndPort != nil:
		return []string{fmt.Sprintf("%s %s dport %d-%d return", to.match, name, port.Port.IntVal, *port.EndPort)}
	case port.Port.Type == intstr.Int:
		return []string{fmt.Sprintf("%s %s dport %d return", to.match, name, port.Port.IntVal)}
	}
	var lines []string
	if d.kind == networking.PolicyTypeIngress {
		for _, number := range namedPorts(pod, protocol, port.Port.StrVal) {
			lines = append(lines, fmt.Sprintf("%s %s dport %d return", to.match, name, number))
		}
		return lines
	}
	for _, address := range to.pods {
		for _, number := range namedPorts(w.pods[address], protocol, port.Port.StrVal) {
			lines = append(lines, fmt.Sprintf("ip daddr %s %s dport %d return", address, name, number))
		}
	}
	return lines
}

// namedPorts returns the numbers of a pod's ports of this name. A sidecar is an init container.
func namedPorts(pod *core.Pod, protocol core.Protocol, name string) []int32 {
	var numbers []int32
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && port.Protocol == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}

// matches says whether a selector selects these labels. The API server has checked it.
func matches(selector *meta.LabelSelector, set labels.Set) bool {
	parsed, err := meta.LabelSelectorAsSelector(selector)
	return err == nil && parsed.Matches(set)
}

func joined(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for n, address := range addresses {
		texts[n] = address.String()
	}
	return strings.Join(texts, ", ")
}
