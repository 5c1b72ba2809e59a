package localfile

import "golang.org/x/sys/unix"

const (
	search      = unix.O_SEARCH
	notFollowed = unix.EMLINK // error of O_NOFOLLOW
)
