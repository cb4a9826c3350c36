package folder

import (
	"path"
	"strings"
)

// maxHops bounds the links that one look follows, as kernels do. What takes
// more, or runs in circles, can be followed by nobody and leads nowhere.
const maxHops = 40

// leaves reports whether the link called name leads out of the folder, with
// all other links on the way resolved: x/up → .. and out → x/up/.. are inside
// as far as their texts go, and outside together. links has the targets of
// all links by their slash-separated paths.
func leaves(links map[string]string, name string) bool {
	at := parent(name)
	rest := strings.Split(links[name], "/")
	if path.IsAbs(links[name]) {
		return true
	}
	for hops := 1; len(rest) > 0; {
		step := rest[0]
		rest = rest[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return true
			}
			at = parent(at)
			continue
		}
		next := path.Join(at, step)
		target, isLink := links[next]
		if !isLink {
			at = next
			continue
		}
		if path.IsAbs(target) {
			return true
		}
		if hops++; hops > maxHops {
			return false
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return false
}

// parent is the directory of a path, "" for the root.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}
