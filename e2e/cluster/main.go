// A whole Kubernetes in one program, picked by the name it is called by: etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl, coredns; and two of our own:
// cluster-pki makes the certificates they know each other by, cluster-probe asks if they answer.
//
// These are the projects' own commands, unchanged and linked together: one build of some minutes
// and one file instead of eight, and no registry to fetch images from. containerd and runc come
// from the distribution. `e2e/xtask/src/cluster` starts it all.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	sample "k8s.io/sample-apiserver/pkg/cmd/server"
)

func main() {
	var command *cobra.Command
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcd.Main(os.Args)
		return
	case "coredns":
		coredns()
		return
	case "cluster-pki":
		succeed(name, makePKI(os.Args[1:]))
		return
	case "cluster-probe":
		succeed(name, probe(os.Args[1:]))
		return
	case "client-go":
		succeed(name, client(os.Args[1:]))
		return
	case "kubectl":
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return
	case "kube-apiserver":
		command = apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		command = controllermanager.NewControllerManagerCommand()
	case "kube-scheduler":
		command = scheduler.NewSchedulerCommand()
	case "sample-apiserver":
		options := sample.NewWardleServerOptions(os.Stdout, os.Stderr)
		command = sample.NewCommandStartWardleServer(genericapiserver.SetupSignalContext(), options, false)
	case "kubelet":
		command = kubelet.NewKubeletCommand(context.Background())
	case "kube-proxy":
		command = kubeproxy.NewProxyCommand()
	default:
		fmt.Fprintf(os.Stderr, "called as %q: call it by a link with a component's name\n", name)
		os.Exit(2)
	}
	os.Exit(cli.Run(command))
}

func succeed(name string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
