package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Long enough for a cluster left running over a holiday; the CA's key never leaves the folder.
const lifetime = 365 * 24 * time.Hour

// A party's certificate. Those with no addresses are clients only; those with `kubeconfig` also
// get a file of that kind with everything in it, so that it works wherever it is copied.
type party struct {
	name         string
	user         string
	groups       []string
	dns          []string
	ips          []string
	isKubeconfig bool
}

// parties of one node at `node`. Names and groups are what the API server's built-in roles expect:
// https://kubernetes.io/docs/setup/best-practices/certificates/
func parties(node string) []party {
	return []party{
		{
			name: "apiserver", user: "kube-apiserver",
			dns: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
			ips: []string{"127.0.0.1", "10.96.0.1", node},
		},
		{name: "kubelet-client", user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		{name: "kubelet", user: "system:node:node1", groups: []string{"system:nodes"}, dns: []string{"node1"}, ips: []string{"127.0.0.1", node}, isKubeconfig: true},
		{name: "admin", user: "admin", groups: []string{"system:masters"}, isKubeconfig: true},
		{name: "controller-manager", user: "system:kube-controller-manager", isKubeconfig: true},
		{name: "scheduler", user: "system:kube-scheduler", isKubeconfig: true},
		{name: "proxy", user: "system:kube-proxy", isKubeconfig: true},
		{name: "dns", user: "system:coredns", isKubeconfig: true},
	}
}

// makePKI writes a throw-away CA, every party's certificate and kubeconfig, and the key that
// signs service account tokens: cluster-pki FOLDER NODE-ADDRESS
func makePKI(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("usage: cluster-pki FOLDER NODE-ADDRESS")
	}
	folder, node := arguments[0], arguments[1]
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	authority, authorityKey, err := makeAuthority()
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(folder, "ca.crt"), "CERTIFICATE", authority.Raw); err != nil {
		return err
	}
	for _, p := range parties(node) {
		if err := p.write(folder, "https://"+net.JoinHostPort(node, "6443"), authority, authorityKey); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(folder, "service-accounts.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	_, err = writeKey(filepath.Join(folder, "service-accounts.key"), key)
	return err
}

func makeAuthority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "throw-away cluster CA"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return certificate, key, err
}

func (p party) write(folder, server string, authority *x509.Certificate, authorityKey *ecdsa.PrivateKey) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: p.user, Organization: p.groups},
		NotBefore:    authority.NotBefore,
		NotAfter:     authority.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     p.dns,
	}
	for _, ip := range p.ips {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	if len(p.ips) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(folder, p.name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	keyPEM, err := writeKey(filepath.Join(folder, p.name+".key"), key)
	if err != nil || !p.isKubeconfig {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{
		Server:                   server,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}),
	}
	config.AuthInfos[p.name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		ClientKeyData:         keyPEM,
	}
	config.Contexts["cluster"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: p.name}
	config.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*config, filepath.Join(folder, p.name+".kubeconfig"))
}

func writeKey(path string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	return text, os.WriteFile(path, text, 0o600)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644)
}
