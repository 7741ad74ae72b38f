# `just` lists the recipes. Each runs a step of .ci/run, a task of cargo, or both; none is needed to work on Paddock.

# List the recipes
default:
    @just --list

# Everything that has to hold before a change is merged
ci *STEPS:
    .ci/run {{STEPS}}

# Check the format, the lints and the API documentation
lint:
    .ci/run format lints rustdoc

# Check the source tree, without running the tests of behaviour
tidy *CHECKS:
    cargo xtask tidy {{CHECKS}}

# Check the messages of new commits
commits:
    .ci/run commits

# Run the tests, or those whose name holds FILTER
test *FILTER:
    {{ if FILTER == "" { ".ci/run tests" } else { "cargo test -- " + FILTER } }}

# Run the unit tests of the plugins
plugins:
    .ci/run plugins

# Show the demo, on a real API server
demo:
    .ci/run demo

# Remove one protection after another, and expect tests to notice (some minutes)
mutants *NAMES:
    cargo mutants-check {{NAMES}}

# Check licences, sources and advisories of dependencies
deny:
    .ci/run licences advisories

# Write what is generated from the code: CRDs, manifests, the API reference, plans of scenarios
bless:
    UPDATE=1 cargo test -p paddock-api -p paddock-operator --lib
    UPDATE=1 cargo xtask api-reference
    UPDATE=1 cargo test -p paddock-tests -- scenario

# Check commit messages when they are written
hooks:
    git config core.hooksPath tests/xtask/hooks
