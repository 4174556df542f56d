// words PORT: gomemcache, driven as test_clients_restart.py says.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// These are answers, and no errors.
func yes(err error) string {
	switch err {
	case nil:
		return "yes"
	case memcache.ErrCacheMiss, memcache.ErrNotStored:
		return "no"
	}
	return "error: " + err.Error()
}

func value(value string, err error) string {
	if err == memcache.ErrCacheMiss {
		return "-"
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return value
}

func many(c *memcache.Client, keys []string) string {
	found, err := c.GetMulti(keys)
	if err != nil {
		return "error: " + err.Error()
	}
	said := make([]string, len(keys))
	for i, key := range keys {
		said[i] = "-"
		if item, ok := found[key]; ok {
			said[i] = string(item.Value)
		}
	}
	return strings.Join(said, " ")
}

func get(c *memcache.Client, key string) string {
	item, err := c.Get(key)
	if err != nil {
		return value("", err)
	}
	return string(item.Value)
}

func answer(c *memcache.Client, w []string) string {
	switch w[0] {
	case "set":
		return yes(c.Set(&memcache.Item{Key: w[1], Value: []byte(w[2])}))
	case "add":
		return yes(c.Add(&memcache.Item{Key: w[1], Value: []byte(w[2])}))
	case "get":
		return get(c, w[1])
	case "many":
		return many(c, w[1:])
	case "delete":
		return yes(c.Delete(w[1]))
	case "incr":
		n, _ := strconv.ParseUint(w[2], 10, 64)
		sum, err := c.Increment(w[1], n)
		return value(strconv.FormatUint(sum, 10), err)
	}
	return "error: unknown"
}

func main() {
	c := memcache.New("127.0.0.1:" + os.Args[1])
	c.Timeout = 20 * time.Second
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Println(answer(c, strings.Split(lines.Text(), " ")))
	}
}
