#!/bin/bash
# PID 1 of a machine for kubeadm: what the init system of a server with containerd, kubelet and a bridge network does.
# POD_CIDR, CLUSTER_POD_CIDR: this machine's part of the pod network, and all of it. ROUTES: "cidr address" of the others'
# parts, separated by commas. KUBELET: the executable. INIT: "yes" where kubeadm init runs. /peer has the other files.
set -u
mount --make-rshared /
for tree in /sys /proc/sys /sys/fs/cgroup /sys/fs/cgroup/*/; do
  # Most of these are mounted read-only; the others are no mount points.
  mount -o remount,bind,rw,nosuid,nodev,noexec "$tree" 2>/dev/null
done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  # A group with processes cannot give controllers to its children.
  mkdir -p /sys/fs/cgroup/init
  for process in $(</sys/fs/cgroup/cgroup.procs); do echo "$process" >/sys/fs/cgroup/init/cgroup.procs; done
  for controller in $(</sys/fs/cgroup/cgroup.controllers); do echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control; done
fi
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
IFS=, read -ra routes <<<"$ROUTES"
for route in "${routes[@]}"; do ip route add "${route% *}" via "${route#* }"; done
nft -f - <<END
table ip peer {
  chain postrouting {
    type nat hook postrouting priority 110; policy accept;
    ip saddr $CLUSTER_POD_CIDR ip daddr != { $CLUSTER_POD_CIDR, 224.0.0.0/4 } masquerade
  }
}
END
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-bridge.conflist <<END
{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "forceAddress": true, "ipMasq": false,
   "hairpinMode": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_CIDR"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true, "backend": "nftables"}]}
END
containerd --config /peer/containerd.toml --log-level warn >/var/log/containerd.log 2>&1 &

# kubeadm only warns that there is no init system; this is its kubelet.service.
kubelet() {
  until [ -S /run/containerd/containerd.sock ] && [ -e /var/lib/kubelet/kubeadm-flags.env ]; do sleep 0.05; done
  . /var/lib/kubelet/kubeadm-flags.env
  while :; do
    # shellcheck disable=SC2086 # several flags
    "$KUBELET" --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
      --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
    sleep 1
  done
}
kubelet >/var/log/kubelet.log 2>&1 &

if [ "$INIT" = yes ]; then
  kubeadm init --config /peer/init.yaml --skip-phases preflight >/var/log/kubeadm.log 2>&1 &
fi
wait
