package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

const clientsMap = "of-client-go"

// client is an agent that uses client-go, configured by what is in its pod and nothing else. It does
// one thing of each kind in a namespace, runs a command in a pod, and prints a line for each.
func client(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("NAMESPACE POD")
	}
	namespace, pod := arguments[0], arguments[1]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := objects(ctx, clients, namespace); err != nil {
		return err
	}
	secret, err := clients.CoreV1().Secrets(namespace).Get(ctx, "db", meta.GetOptions{})
	if err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	fmt.Println("secret", string(secret.Data["password"]))
	// Both are sent as protobuf, as its typed clients send all that they can.
	_, err = clients.CoreV1().Secrets(namespace).Update(ctx, secret, meta.UpdateOptions{})
	if err := refused("written back", err); err != nil {
		return err
	}
	wide := &core.Pod{ObjectMeta: meta.ObjectMeta{Name: clientsMap}, Spec: core.PodSpec{HostNetwork: true}}
	wide.Spec.Containers = []core.Container{{Name: "c", Image: "x"}}
	_, err = clients.CoreV1().Pods(namespace).Create(ctx, wide, meta.CreateOptions{})
	if err := refused("unread", err); err != nil {
		return err
	}
	if err := exec(ctx, config, clients, namespace, pod); err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	err = clients.CoreV1().ConfigMaps("kube-system").Delete(ctx, clientsMap, meta.DeleteOptions{})
	return refused("denied", err)
}

// refused prints what the API said no with, in client-go's own type.
func refused(what string, err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return fmt.Errorf("%s: no StatusError: %v", what, err)
	}
	reason, _, _ := strings.Cut(status.ErrStatus.Message, ":")
	fmt.Println(what, status.ErrStatus.Code, status.ErrStatus.Reason, reason)
	return nil
}

func objects(ctx context.Context, clients *kubernetes.Clientset, namespace string) error {
	maps := clients.CoreV1().ConfigMaps(namespace)
	watch, err := maps.Watch(ctx, meta.ListOptions{FieldSelector: "metadata.name=" + clientsMap})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watch.Stop()
	wanted := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: clientsMap}, Data: map[string]string{"x": "one"}}
	if _, err := maps.Create(ctx, wanted, meta.CreateOptions{}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	got, err := maps.Get(ctx, clientsMap, meta.GetOptions{})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	fmt.Println("got", got.Data["x"])
	patch := []byte(`{"data":{"x":"two"}}`)
	if _, err := maps.Patch(ctx, clientsMap, types.StrategicMergePatchType, patch, meta.PatchOptions{}); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	list, err := maps.List(ctx, meta.ListOptions{})
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	for _, one := range list.Items {
		if one.Name == clientsMap {
			fmt.Println("listed", one.Data["x"])
		}
	}
	if err := maps.Delete(ctx, clientsMap, meta.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	for seen := range 3 {
		select {
		case event := <-watch.ResultChan():
			fmt.Println("watched", event.Type)
		case <-ctx.Done():
			return fmt.Errorf("the watch told %d events of 3", seen)
		}
	}
	return nil
}

func exec(ctx context.Context, config *rest.Config, clients *kubernetes.Clientset, namespace, pod string) error {
	options := &core.PodExecOptions{Command: []string{"cat"}, Stdin: true, Stdout: true}
	request := clients.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).
		SubResource("exec").VersionedParams(options, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", request.URL().String())
	if err != nil {
		return err
	}
	var out bytes.Buffer
	streams := remotecommand.StreamOptions{Stdin: strings.NewReader("through"), Stdout: &out}
	if err := executor.StreamWithContext(ctx, streams); err != nil {
		return err
	}
	fmt.Println("ran", out.String())
	return nil
}
