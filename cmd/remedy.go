package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// remedied adds to an error a line that says who must do what.
type remedied struct {
	error
	remedy string
}

func (e remedied) Error() string { return e.error.Error() + "\n" + e.remedy }

func (e remedied) Unwrap() error { return e.error }

// withRemedy makes a command that works with the proxy add the remedy to its error. The
// command has a flag state-dir, which is loaded when it returns.
func withRemedy(c *cobra.Command) *cobra.Command {
	run := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := run(c, args)
		if err == nil {
			return nil
		}
		dir := c.Flags().Lookup("state-dir").Value.String()
		if remedy := remoteRemedy(err, dir, namesOf(c, args)); remedy != "" {
			return remedied{err, remedy}
		}
		return err
	}
	return c
}

// remoteRemedy returns what an internal host's user, or the proxy's administrator,
// must do after an error, or an empty string if the error says it.
func remoteRemedy(err error, stateDir, names string) string {
	var problem *api.Problem
	var folder *remote.FolderError
	var unlisted *remote.UnlistedError
	var shared *remote.SharedError
	isProblem := errors.As(err, &problem)
	switch {
	case errors.As(err, new(*remote.HookError)):
		return `correct the hook, then run the same command again; "acmeproxy remote run" retries it as well`
	case errors.Is(err, remote.ErrPin):
		return "ask the proxy's administrator whether its data directory was replaced, and only then " + enrolAgain(stateDir)
	case errors.As(err, &folder):
		return folderRemedy(folder)
	case errors.As(err, new(*certfile.OwnedError)), errors.As(err, new(*certfile.ForeignFilesError)):
		return "to take the folder nevertheless, run acmeproxy remote get with --force once; it keeps a copy of files of other programs"
	case errors.As(err, &shared):
		return "to end that for all of them, let the proxy's administrator run acmeproxy certs forget " + shared.ID
	case errors.As(err, &unlisted):
		return fmt.Sprintf("to end its renewal, run acmeproxy remote forget %s; to keep it, add its entry again", unlisted.Name)
	case errors.As(err, new(*remote.ProxyError)):
		return forgetRemedy(err, stateDir)
	case isProblem && problem.Status == http.StatusUnauthorized && enrolledAs(stateDir) != "":
		return lockedOut(stateDir)
	case isProblem && problem.Status == http.StatusForbidden && isGrant(problem):
		return fmt.Sprintf(`the administrator changes the grants of client %q in the output of "acmeproxy clients export", and runs "acmeproxy clients apply"`,
			enrolledAs(stateDir))
	}
	if remote.IsUnreachable(err) {
		return `check this host's network, firewall and HTTPS_PROXY, and ask the proxy's administrator whether "acmeproxy serve" runs; then try again`
	}
	return checkRemedy(err, "acmeproxy remote check", names)
}

// lockedOut returns what to do if the proxy does not accept this host's key.
func lockedOut(stateDir string) string {
	name := enrolledAs(stateDir)
	return fmt.Sprintf("the proxy does not accept the key in %s: the client %q was disabled or removed, its credentials were revoked, "+
		"or a copy of this folder has replaced the key on another host\n"+
		`ask the proxy's administrator to run "acmeproxy clients show %s": if the client is disabled, "acmeproxy clients enable %s"; if it is unknown, "acmeproxy clients add %s"; `+
		"otherwise %s", stateDir, name, name, name, name, enrolAgain(stateDir))
}

// forgetRemedy returns what to do if the proxy could not be asked to end its work.
func forgetRemedy(failure error, stateDir string) string {
	var e *remote.ProxyError
	errors.As(failure, &e)
	cause := remoteRemedy(e.Err, stateDir, "")
	switch {
	case remote.IsUnreachable(failure):
		return "run the same command again when the proxy can be reached, or use --local to forget it here only; the proxy then continues to renew it"
	case cause != "":
		return cause + "\nafter that, run the same command again, or use --local to forget it here only"
	}
	return "run the same command again later, or use --local to forget it here only; the proxy then continues to renew it"
}

// folderRemedy returns what to do about two certificates for one folder. It never ends
// the renewal of the one in use, or of the only one with a name.
func folderRemedy(e *remote.FolderError) string {
	switch {
	case e.Rival == "":
		return fmt.Sprintf("to replace the certificate there, add --name %s --expand; it stays until the new one is there", e.Name)
	case e.Source != "" && e.Covered:
		return fmt.Sprintf("%s has all its names; remove the entry of %s from %s, then run acmeproxy remote forget %[2]s", e.Name, e.Rival, e.Source)
	case e.Source != "":
		return fmt.Sprintf("give its entry in %s a folder of its own: out", e.Source)
	case e.Covered:
		return fmt.Sprintf("%s has all its names; to end this one, run acmeproxy remote forget %s", e.Name, e.Rival)
	}
	return fmt.Sprintf("to give it a folder of its own, run acmeproxy remote get with its names, --name %s and --out FOLDER", e.Rival)
}

// enrolAgain returns the steps that give a host a new enrolment. Its certificates stay
// listed, because they are in other files of the folder.
func enrolAgain(stateDir string) string {
	name := enrolledAs(stateDir)
	if name == "" {
		name = "NAME"
	}
	old := filepath.Join(stateDir, "old")
	return fmt.Sprintf(`let the administrator run "acmeproxy clients token %s"; then run here: mkdir -p %s && mv %s %s, and the line that it printed, and restart "acmeproxy remote run"`,
		name, old, strings.Join(remote.EnrolmentFiles(stateDir), " "), old)
}

// enrolledAs returns the name of the client in a state directory, or an empty string.
func enrolledAs(stateDir string) string {
	s, err := remote.Open(stateDir, userAgent())
	if err != nil {
		return ""
	}
	return s.Client()
}

// isGrant reports whether a client's grants are the cause of a refusal.
func isGrant(p *api.Problem) bool {
	for _, f := range p.Errors {
		switch strings.TrimPrefix(f.Location, "body.") {
		case "names", "mode", "key_type", "client", "source":
			return !strings.Contains(f.Message, "is disabled")
		}
	}
	return false
}

// namesOf returns the names among the arguments of a command, or an empty string.
func namesOf(c *cobra.Command, args []string) string {
	if !strings.Contains(c.Use, "NAME") {
		return ""
	}
	return strings.Join(splitCommas(args), " ")
}

// checkRemedy points to the command that finds out why a CA cannot validate names, or
// returns an empty string for another error. The error may name the one that failed.
func checkRemedy(err error, command, names string) string {
	name := names
	if name == "" {
		name = "NAME"
	}
	var failed *acme.Error
	switch {
	case errors.As(err, &failed) && failed.IsValidation():
		if failed.Identifier != "" {
			name = failed.Identifier
		}
	case !acme.IsValidationText(err.Error()):
		return ""
	}
	return fmt.Sprintf("to see why the CA cannot validate it, run %s %s", command, name)
}

// remedyHandler adds the attribute remedy to log records whose attribute error has one.
type remedyHandler struct {
	slog.Handler
	remedy func(err error, names string) string
	names  string // of the attribute names of the logger; may be empty
}

// withRemedies returns a logger that says who must do what after an error.
func withRemedies(log *slog.Logger, remedy func(err error, names string) string) *slog.Logger {
	return slog.New(remedyHandler{log.Handler(), remedy, ""})
}

// Handle implements [slog.Handler].
func (h remedyHandler) Handle(ctx context.Context, r slog.Record) error {
	remedy := ""
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		if a.Key != "error" || !ok {
			return true
		}
		remedy = strings.ReplaceAll(h.remedy(err, h.names), "\n", "; ")
		return false
	})
	if remedy != "" {
		r = r.Clone()
		r.AddAttrs(slog.String("remedy", remedy))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h remedyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	names := h.names
	for _, a := range attrs {
		if a.Key == "names" {
			names = strings.Trim(a.Value.String(), "[]")
		}
	}
	return remedyHandler{h.Handler.WithAttrs(attrs), h.remedy, names}
}

// WithGroup implements [slog.Handler].
func (h remedyHandler) WithGroup(name string) slog.Handler {
	return remedyHandler{h.Handler.WithGroup(name), h.remedy, h.names}
}
