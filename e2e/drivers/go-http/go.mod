module chaperone.dev/drivers/go-http

go 1.25.0
