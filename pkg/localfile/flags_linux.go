package localfile

import "golang.org/x/sys/unix"

const notFollowed = unix.ELOOP // error of O_NOFOLLOW
