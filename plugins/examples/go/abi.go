package main

// The canonical ABI of the world pool-size-plugin, version 0.2.0, as far as this plugin needs it. The structs have the
// layout of the component model: a pointer is 32 bits wide there, but 64 bits in Go. Each call has a new instance, so
// nothing is ever freed.

import "unsafe"

// Question is the question of the hook. The fields that the plugin does not use are left out.
type Question struct {
	Min, Max      uint32
	BucketSeconds uint32
	Arrivals      []uint32
	Now           uint64
}

// Answer is the answer of the hook, without state.
type Answer struct {
	Desired   uint32
	NextCheck *uint64
	Reason    string
}

// slice is a string or a list: an address and a length.
type slice struct{ address, length uint32 }

func (s slice) text() string { return string(elements[byte](s)) }

func elements[T any](s slice) []T {
	if s.length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(s.address))), s.length)
}

// kept keeps the memory alive that only the host has the address of.
var kept []any

func keep(text string) slice {
	kept = append(kept, text)
	return slice{uint32(uintptr(unsafe.Pointer(unsafe.StringData(text)))), uint32(len(text))}
}

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	// Words of 64 bits have the largest alignment that a type of the component model needs.
	memory := make([]uint64, size/8+1)
	kept = append(kept, memory)
	address := unsafe.Pointer(unsafe.SliceData(memory))
	copy(unsafe.Slice((*byte)(address), size), unsafe.Slice((*byte)(old), min(oldSize, size)))
	return address
}

// option is option<T>. It is a type of its own, because its alignment is that of its value.
type option[T any] struct {
	some  bool
	value T
}

// arguments are the question, field by field, and the settings.
type arguments struct {
	namespace, name, labels  slice
	min, max                 uint32
	ready, creating, claimed uint32
	bucketSeconds            uint32
	arrivals                 slice
	hits, misses             uint32
	refillMs                 option[uint64]
	state                    slice
	now                      uint64
	settings                 slice
}

// answer is the answer, field by field.
type answer struct {
	desired   uint32
	nextCheck option[uint64]
	reason    slice
	state     option[slice]
}

// decided is result<answer, string>. The error is in the place of the answer, whose alignment is the larger one.
type decided struct {
	failed bool
	answer answer
}

//go:wasmexport paddock:policy/pool-size@0.2.0#decide
func exportDecide(address unsafe.Pointer) unsafe.Pointer {
	asked, result := (*arguments)(address), &decided{}
	decision, err := decide(Question{
		Min:           asked.min,
		Max:           asked.max,
		BucketSeconds: asked.bucketSeconds,
		Arrivals:      elements[uint32](asked.arrivals),
		Now:           asked.now,
	}, asked.settings.text())
	if err != nil {
		result.failed = true
		*(*slice)(unsafe.Pointer(&result.answer)) = keep(err.Error())
	} else {
		result.answer = answer{desired: decision.Desired, reason: keep(decision.Reason)}
		if decision.NextCheck != nil {
			result.answer.nextCheck = option[uint64]{true, *decision.NextCheck}
		}
	}
	kept = append(kept, result)
	return unsafe.Pointer(result)
}

// validated is result<_, string>.
type validated struct {
	failed  bool
	message slice
}

//go:wasmexport paddock:policy/settings@0.2.0#validate-settings
func exportValidateSettings(hook, address, length uint32) unsafe.Pointer {
	result := &validated{}
	if err := validate(slice{address, length}.text()); err != nil {
		result.failed, result.message = true, keep(err.Error())
	}
	kept = append(kept, result)
	return unsafe.Pointer(result)
}

//go:wasmexport paddock:policy/settings@0.2.0#schema
func exportSchema(hook uint32) unsafe.Pointer {
	result := keep(schemaText)
	kept = append(kept, &result)
	return unsafe.Pointer(&result)
}
