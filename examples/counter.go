// An app beside its Tenure sidecar: while it leads, it counts, five a second. Its sidecar runs
// beside it (tenure run --backend redis) or starts it (tenure run --backend redis -- ./counter).
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

var api, born = append(strings.Fields(os.Getenv("TENURE_API")), "http://127.0.0.1:4040")[0], os.Getenv("TENURE_FENCE_TOKEN") // with a token of `tenure run -- …`: leader by birth, nothing after that

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
	under, value, fence := "", 0, http.Header{} // under which token the counter was read, and with what it may be written
	for ; ; time.Sleep(200 * time.Millisecond) {
		status, leader, _ := ask("GET", "/leader", "", nil) // before each act
		token, told := leader.Get("Tenure-Epoch"), "follower leader="+leader.Get("Tenure-Leader")
		if status != 200 || (born != "" && born != token) {
			if told != under {
				fmt.Println(told)
			}
			if under = told; born != "" {
				os.Exit(1)
			}
		} else if under != token {
			status, stored, body := ask("GET", "/checkpoint", "", nil)
			fence = http.Header{"Fence-Token": {token}, "If-Match": {stored.Get("ETag")}}
			if status == 404 { // before the first write
				body, fence = "0", http.Header{"Fence-Token": {token}, "If-None-Match": {"*"}}
			}
			if _, err := fmt.Sscan(body, &value); err == nil && (status == 200 || status == 404) {
				under = token
				fmt.Printf("resumed epoch=%s counter=%d\n", token, value)
			}
		} else if status, written, _ := ask("PUT", "/checkpoint", fmt.Sprint(value+1), fence); status == 204 {
			value, fence = value+1, http.Header{"Fence-Token": {token}, "If-Match": {written.Get("ETag")}}
			fmt.Printf("leader epoch=%s counter=%d lease_left=%sms\n", token, value, leader.Get("Tenure-Lease-Remaining-Ms"))
		} else { // refused, or nobody knows: read before counting on
			under = ""
			fmt.Printf("stopped epoch=%s counter=%d status=%d\n", token, value+1, status)
		}
	}
}
