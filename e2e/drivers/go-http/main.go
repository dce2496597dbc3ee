// A target that says what it understood of each request, and a client, both of net/http alone.
//
//	main serve PORT     HTTP/1.1, and HTTP/2 without TLS; a line of JSON for each request
//	main get URL [h2c]  one request; prints status, body and trailers
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

type seen struct {
	Method   string `json:"method"`
	Path     string `json:"path"`
	Query    string `json:"query"`
	Host     string `json:"host"`
	Length   int64  `json:"length"`
	Protocol string `json:"protocol"`
}

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		err = serve(os.Args[2])
	case len(os.Args) >= 3 && os.Args[1] == "get":
		err = get(os.Args[2], len(os.Args) > 3)
	default:
		err = fmt.Errorf("serve PORT | get URL [h2c]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func protocols() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func serve(port string) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		length, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		line, _ := json.Marshal(seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, length, r.Proto})
		fmt.Println(string(line))
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = w.Write([]byte{0, 0, 0, 0, 0})
			w.Header().Set("Grpc-Status", "0")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(line)
	})
	server := http.Server{Addr: "127.0.0.1:" + port, Handler: handler, Protocols: protocols()}
	return server.ListenAndServe()
}

func get(url string, h2c bool) error {
	transport := &http.Transport{}
	method, contentType := "GET", ""
	if h2c {
		only := new(http.Protocols)
		only.SetUnencryptedHTTP2(true)
		transport.Protocols = only
		method, contentType = "POST", "application/grpc"
	}
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
		request.Header.Set("TE", "trailers")
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	fmt.Println(response.StatusCode, response.Proto)
	fmt.Println("grpc-status", response.Header.Get("Grpc-Status"), response.Trailer.Get("Grpc-Status"))
	fmt.Println(string(body))
	return nil
}
