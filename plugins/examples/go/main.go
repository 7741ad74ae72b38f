// pool-headroom in Go: a pool keeps as many warm Sandboxes as claims came lately, and some percent more.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
)

// schemaText is the JSON Schema of the settings, which the operator compares settings with first.
//
//go:embed settings.schema.json
var schemaText string

type settings struct {
	HeadroomPercent uint64 `json:"headroomPercent"`
	WindowSeconds   uint64 `json:"windowSeconds"`
}

func parse(text string) (settings, error) {
	parsed := settings{HeadroomPercent: 50, WindowSeconds: 60}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&parsed)
	return parsed, err
}

func validate(text string) error {
	_, err := parse(text)
	return err
}

func decide(question Question, text string) (Answer, error) {
	settings, err := parse(text)
	if err != nil {
		return Answer{}, err
	}
	bucket := max(uint64(question.BucketSeconds), 1)
	arrivals := question.Arrivals
	if buckets := divCeil(settings.WindowSeconds, bucket); buckets < uint64(len(arrivals)) {
		arrivals = arrivals[uint64(len(arrivals))-buckets:]
	}
	claims := uint64(0)
	for _, arrived := range arrivals {
		claims += uint64(arrived)
	}
	wanted := divCeil(claims*(100+settings.HeadroomPercent), 100)
	next := question.Now + bucket*1000
	return Answer{
		Desired:   uint32(min(max(wanted, uint64(question.Min)), uint64(question.Max))),
		NextCheck: &next,
		Reason: fmt.Sprintf("%d claims in %d s, and %d %% headroom",
			claims, settings.WindowSeconds, settings.HeadroomPercent),
	}, nil
}

func divCeil(number, divisor uint64) uint64 {
	return (number + divisor - 1) / divisor
}

// main is never called: the exports are.
func main() {}
