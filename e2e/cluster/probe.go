package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// probe asks whether a daemon answers. A machine that can build this need not have curl or dig.
//
//	cluster-probe http URL
//	cluster-probe dns SERVER NAME
func probe(arguments []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	switch {
	case len(arguments) == 2 && arguments[0] == "http":
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, arguments[1], nil)
		if err != nil {
			return err
		}
		response, err := (&http.Transport{}).RoundTrip(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	case len(arguments) == 3 && arguments[0] == "dns":
		resolver := net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(arguments[1], "53"))
			},
		}
		addresses, err := resolver.LookupHost(ctx, arguments[2]+".")
		fmt.Println(addresses)
		return err
	}
	return errors.New("usage: cluster-probe http URL | dns SERVER NAME")
}
