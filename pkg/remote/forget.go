package remote

import (
	"context"
	"errors"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// ForgetOptions holds the decisions of the administrator for Forget.
type ForgetOptions struct {
	OnProxy bool // end the proxy's work for the other hosts of the client, too
	Local   bool // do not ask the proxy; it continues to renew the certificate
}

// AtProxy says what the proxy does with a certificate that this host forgot.
type AtProxy string

// The values of AtProxy.
const (
	ProxyNone   AtProxy = "none"   // the proxy did not manage it
	ProxyEnded  AtProxy = "ended"  // the proxy stopped managing it
	ProxyShared AtProxy = "shared" // the proxy continues to renew it for other hosts of the client
	ProxyKept   AtProxy = "kept"   // the proxy was not asked
)

// Forgotten holds the result of Forget.
type Forgotten struct {
	Name  string       `json:"name"`
	Names cert.Names   `json:"names"`
	Mode  clients.Mode `json:"mode"`
	Out   string       `json:"out"`
	Proxy AtProxy      `json:"proxy"`
}

// forgetting is stored while the proxy is asked to end its work, so that a process that
// is killed then does not leave a certificate that is registered again.
type forgetting struct {
	OnProxy bool `json:"on_proxy,omitempty"`
}

// ProxyError reports that a certificate was not forgotten, because the proxy could not
// be asked to end its work.
type ProxyError struct{ Err error }

func (e *ProxyError) Error() string {
	return "the proxy did not stop managing the certificate, so this host still renews it: " + e.Err.Error()
}

func (e *ProxyError) Unwrap() error { return e.Err }

// Forget stops renewing a certificate. Its files stay. In agent mode the proxy stops
// managing it, too, unless other hosts of the client are enrolled. If the proxy cannot be
// asked, Forget changes nothing and returns a *ProxyError. It waits for a process that
// works on the certificate, because that would store it again. It returns
// fs.ErrNotExist if there is no such certificate any more.
func (s *State) Forget(ctx context.Context, listed *Kept, o ForgetOptions) (Forgotten, error) {
	unlock, err := listed.lock(ctx)
	if err != nil {
		return Forgotten{}, err
	}
	defer unlock()
	k, err := readNamed(listed)
	if err != nil {
		return Forgotten{}, err
	}
	done := Forgotten{Name: k.Name, Names: k.Names, Mode: k.Mode, Out: k.Out, Proxy: ProxyNone}
	switch {
	case len(k.managedIDs()) == 0:
	case o.Local:
		done.Proxy = ProxyKept
	default:
		g, err := s.Getter(nil)
		if err != nil {
			return done, err
		}
		if done.Proxy, err = g.end(ctx, k, forgetting{OnProxy: o.OnProxy}); err != nil {
			return done, err
		}
	}
	return done, k.remove(ctx)
}

// end asks the proxy to stop managing k. It stores that before, and undoes it if the
// proxy certainly changed nothing.
func (g *Getter) end(ctx context.Context, k *Kept, f forgetting) (AtProxy, error) {
	k.Forgetting = &f
	if err := k.save(); err != nil {
		return "", err
	}
	at, err := g.finishForgetting(ctx, k)
	var unreachable *unreachableError
	if err == nil || errors.As(err, &unreachable) && unreachable.sent {
		return at, err // if the answer was lost, the daemon asks again
	}
	k.Forgetting = nil
	return "", errors.Join(&ProxyError{err}, k.save())
}

// finishForgetting sends the stored request. It may be repeated.
func (g *Getter) finishForgetting(ctx context.Context, k *Kept) (AtProxy, error) {
	if !k.Forgetting.OnProxy {
		switch shared, err := g.mayBeShared(ctx); {
		case err != nil:
			return "", err
		case shared:
			return ProxyShared, nil
		}
	}
	at := ProxyNone
	for _, id := range k.managedIDs() {
		used, err := g.state.isUsed(id, &Kept{path: k.path})
		if err != nil {
			return "", err
		}
		if used {
			continue // by another certificate of this host
		}
		switch err := g.api.Delete(ctx, id, k.Forgetting.OnProxy); {
		case err == nil:
			at = ProxyEnded
		case isStatus(err, http.StatusNotFound):
		case isSharedProblem(err):
			return ProxyShared, nil
		default:
			return "", err
		}
	}
	return at, nil
}

// mayBeShared reports whether a proxy of an earlier release, which deletes the
// certificates of several hosts without a refusal, may have other hosts of this client.
// It does not count hosts, but other recipients may be other hosts.
func (g *Getter) mayBeShared(ctx context.Context) (bool, error) {
	who, err := g.api.Self(ctx)
	if err != nil {
		return false, err
	}
	return who.Hosts == 0 && len(who.Recipients) > 1, nil
}

// isSharedProblem reports whether the proxy refused to delete a certificate of several hosts.
func isSharedProblem(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == http.StatusConflict && p.Type == api.ProblemShared
}

// remove removes the state file and releases the folder. The caller must hold the lock.
func (k *Kept) remove(ctx context.Context) error {
	k.removeLeftovers()
	if err := k.removeFiles(); err != nil {
		return err
	}
	k.forgotten = true
	_ = certfile.Release(ctx, k.Out, k.owner()) // an owner that stays can be overruled
	return nil
}
