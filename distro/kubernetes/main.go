// Command kubernetes is upstream Kubernetes and etcd in one executable.
//
// The component to run is the base name of argv[0] or, if that is no
// component's name, the first argument. Nothing here changes how a component
// behaves: each case is what the component's own main function does upstream.
// kube-controllers runs two of them as one process, which shares one runtime
// and one heap: a control plane is some 30 MB smaller for it.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	_ "time/tzdata" // CronJobs name time zones; the executable may run without a zone database

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build information metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"etcdutl":                 runEtcdutl,
	"kube-apiserver":          serve(apiserver.NewAPIServerCommand),
	"kube-controller-manager": serve(controllermanager.NewControllerManagerCommand),
	"kube-controllers":        runControllers,
	"kube-proxy":              serve(proxy.NewProxyCommand),
	"kube-scheduler":          serve(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 serve(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
}

func main() {
	if run, ok := components[filepath.Base(os.Args[0])]; ok {
		run()
		return
	}
	if len(os.Args) > 1 {
		if run, ok := components[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			run()
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kubernetes etcd|etcdutl|kube-apiserver|kube-controller-manager|kube-scheduler|kube-controllers|kubelet|kube-proxy|kubectl [argument...]")
	os.Exit(2)
}

func serve(command func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(command())) }
}

// runControllers runs kube-controller-manager with the arguments before "--"
// and kube-scheduler with those after it. When one of them ends, both do.
func runControllers() {
	split := slices.Index(os.Args, "--")
	if split < 0 {
		fmt.Fprintln(os.Stderr, "usage: kube-controllers [kube-controller-manager's argument...] -- [kube-scheduler's argument...]")
		os.Exit(2)
	}
	// Logging is set up once per process; both components want the same.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged
	manager := controllermanager.NewControllerManagerCommand()
	manager.SetArgs(os.Args[1:split])
	scheduler := scheduler.NewSchedulerCommand()
	scheduler.SetArgs(os.Args[split+1:])
	ended := make(chan int)
	for _, command := range []*cobra.Command{manager, scheduler} {
		go func() { ended <- cli.Run(command) }()
	}
	os.Exit(<-ended)
}

// runEtcdutl has of upstream's etcdutl what works on snapshots.
func runEtcdutl() {
	command := &cobra.Command{Use: "etcdutl", Short: "Works on the files of etcd"}
	command.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "simple, json or table")
	command.AddCommand(etcdutl.NewSnapshotCommand())
	if err := command.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func runKubectl() {
	// Verbosity must be set before the command tree is made: making it already loads plugins and preferences.
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) //nolint:errcheck
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
