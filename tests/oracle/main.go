// Command oracle answers what compose-go makes of Compose files: one request as JSON a line, one answer a line.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/sirupsen/logrus"
)

// root stands in every answer for the folder that the files of the request were written to.
const root = "/repository"

// A request has the files of a repository; Compose names those that `docker compose --file` would be given.
type request struct {
	Files     map[string]string `json:"files"`
	Compose   []string          `json:"compose"`
	Name      string            `json:"name"`
	Variables map[string]string `json:"variables"`
}

// An answer has the project or the error, and the names of the variables that were not set.
type answer struct {
	Project json.RawMessage `json:"project,omitempty"`
	Error   string          `json:"error,omitempty"`
	Unset   []string        `json:"unset,omitempty"`
}

// warnings remembers the variables that compose-go warns about.
type warnings struct{ unset []string }

var unsetVariable = regexp.MustCompile(`^The "(.*)" variable is not set`)

func (w *warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

func (w *warnings) Fire(entry *logrus.Entry) error {
	if found := unsetVariable.FindStringSubmatch(entry.Message); found != nil {
		w.unset = append(w.unset, found[1])
	}
	return nil
}

func main() {
	told := &warnings{}
	logrus.SetOutput(io.Discard)
	logrus.AddHook(told)
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		must(err)
		var asked request
		must(json.Unmarshal(line, &asked))
		told.unset = nil
		project, err := load(asked)
		given := answer{Project: project, Unset: told.unset}
		if err != nil {
			given.Error = err.Error()
		}
		must(json.NewEncoder(output).Encode(given))
		must(output.Flush())
	}
}

// load is what `docker compose config` does: `.env` beside the file, every profile, env files read and left out.
func load(asked request) (project json.RawMessage, err error) {
	folder, err := os.MkdirTemp("", "oracle")
	must(err)
	defer os.RemoveAll(folder)
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("compose-go panics: %v", problem)
		}
		project = bytes.ReplaceAll(project, []byte(folder), []byte(root))
		if err != nil {
			err = fmt.Errorf("%s", bytes.ReplaceAll([]byte(err.Error()), []byte(folder), []byte(root)))
		}
	}()
	for name, text := range asked.Files {
		path := filepath.Join(folder, name)
		must(os.MkdirAll(filepath.Dir(path), 0o700))
		must(os.WriteFile(path, []byte(text), 0o600))
	}
	var paths, variables []string
	for _, path := range asked.Compose {
		paths = append(paths, filepath.Join(folder, path))
	}
	variables = append(variables, "PWD="+filepath.Dir(paths[0]))
	for name, value := range asked.Variables {
		variables = append(variables, name+"="+value)
	}
	options, err := cli.NewProjectOptions(paths,
		cli.WithWorkingDirectory(filepath.Dir(paths[0])),
		cli.WithEnv(variables),
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithName(asked.Name),
		cli.WithProfiles([]string{"*"}),
		cli.WithDiscardEnvFile,
		cli.WithInterpolation(true),
		cli.WithResolvedPaths(true),
	)
	if err != nil {
		return nil, err
	}
	loaded, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return json.Marshal(loaded)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
