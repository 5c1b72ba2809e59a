package config_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// settings has a flag, and a nested setting that only the file has.
type settings struct {
	Email string
	CAs   []ca `yaml:"cas" want:"the name of each CA as a key"`
}

type ca struct {
	Name      string `config:"key"`
	Directory string `yaml:"directory" required:"write the URL of the CA's directory"`
	KeyFile   string `yaml:"key-file" config:"path"`
}

func bind(fs *pflag.FlagSet) *settings {
	s := &settings{Email: "ops@example.com"}
	fs.StringVar(&s.Email, "email", s.Email, "contact `address`")
	return s
}

func ExampleLoad() {
	dir, err := os.MkdirTemp("", "config")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "acmeproxy.yaml")
	text := "cas:\n  main: {directory: https://ca.example/directory}\n  spare: {directory: https://ca.example.net/directory}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	s, err := config.Load(new(pflag.FlagSet), os.Getenv, file, bind)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Email)
	for _, ca := range s.CAs {
		fmt.Println(ca.Name, ca.Directory)
	}
	// Output:
	// ops@example.com
	// main https://ca.example/directory
	// spare https://ca.example.net/directory
}
