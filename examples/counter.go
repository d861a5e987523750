// An app beside its Tenure sidecar: while it leads, it counts, five a second.
//
//	tenure run --backend redis & go run examples/counter.go     beside a sidecar
//	tenure run --backend redis -- ./counter                     started by it
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

var api, born = os.Getenv("TENURE_API"), os.Getenv("TENURE_FENCE_TOKEN") // both given by `tenure run -- …`

// ask returns the status (0 where no answer came), the headers and the body.
func ask(method, path, body string, headers http.Header) (int, http.Header, string) {
	request, _ := http.NewRequest(method, api+path, strings.NewReader(body))
	request.Header = headers
	if answer, err := (&http.Client{Timeout: 5 * time.Second}).Do(request); err == nil {
		defer answer.Body.Close()
		if text, err := io.ReadAll(answer.Body); err == nil {
			return answer.StatusCode, answer.Header, string(text)
		}
	}
	return 0, nil, ""
}

func main() {
	if api == "" {
		api = "http://127.0.0.1:4040"
	}
	under, value, condition, tag := "", 0, "", "" // under which token the counter was read, and what must still be stored
	for ; ; time.Sleep(200 * time.Millisecond) {
		status, leader, _ := ask("GET", "/leader", "", http.Header{}) // before each act
		token := leader.Get("Tenure-Epoch")
		if status != 200 || (born != "" && born != token) {
			if told := "follower leader=" + leader.Get("Tenure-Leader"); told != under {
				under = told
				fmt.Println(told)
			}
			if born != "" { // leader by birth, nothing after that
				os.Exit(1)
			}
			continue
		}
		if under != token {
			status, stored, body := ask("GET", "/checkpoint", "", http.Header{})
			_, err := fmt.Sscan(body, &value)
			condition, tag = "If-Match", stored.Get("ETag")
			if status == 404 { // before the first write
				value, condition, tag = 0, "If-None-Match", "*"
			} else if status != 200 || err != nil {
				continue
			}
			fmt.Printf("resumed epoch=%s counter=%d\n", token, value)
		}
		fence := http.Header{"Fence-Token": {token}, condition: {tag}}
		status, written, _ := ask("PUT", "/checkpoint", fmt.Sprint(value+1), fence)
		if under = ""; status != 204 { // refused, or nobody knows: read before counting on
			fmt.Printf("stopped epoch=%s counter=%d status=%d\n", token, value+1, status)
			continue
		}
		under, value, condition, tag = token, value+1, "If-Match", written.Get("ETag")
		fmt.Printf("leader epoch=%s counter=%d lease_left=%sms\n", token, value, leader.Get("Tenure-Lease-Remaining-Ms"))
	}
}
