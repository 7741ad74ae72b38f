module pool-headroom-go

go 1.26
