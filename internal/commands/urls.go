package commands

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// maxURL is the longest return address, in bytes.
const maxURL = 2048

// checkURL says why the buyer can't be sent to an address; "" if nothing is wrong. It is https, or http on a loopback
// host for development, absolute, with a host and without credentials.
func checkURL(s string) string {
	if len(s) > maxURL {
		return "must be at most " + strconv.Itoa(maxURL) + " bytes long"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return "must be an absolute https URL without spaces"
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return "must be an absolute https URL"
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "must have a port from 1 to 65535, or none"
		}
	}
	switch {
	case u.User != nil:
		return "must not hold credentials"
	case u.Scheme == "https":
		return ""
	case u.Scheme == "http" && loopback(u.Hostname()):
		return ""
	}
	return "must be https (http only for localhost, 127.0.0.1 and [::1])"
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
