package localfile

import "golang.org/x/sys/unix"

const (
	search      = unix.O_SEARCH
	notFollowed = unix.ELOOP // error of O_NOFOLLOW
)
