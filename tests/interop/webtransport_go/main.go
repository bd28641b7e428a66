// An echo server on webtransport-go: the one released implementation beside our own that speaks WebTransport flow control
// and several sessions on a connection. It prints its port, and ends when its standard input does.
//
//	webtransport_go -cert FILE -key FILE [-data BYTES] [-bidi STREAMS] [-uni STREAMS]
//
// /echo sends every stream and datagram back: what comes on a unidirectional stream goes out on a new one.
// /close closes the session with code 7 and a reason after its first datagram.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
)

func main() {
	certificate := flag.String("cert", "", "PEM file of the certificate")
	key := flag.String("key", "", "PEM file of its key")
	data := flag.Int64("data", 0, "WT_INITIAL_MAX_DATA, in bytes")
	bidi := flag.Int64("bidi", 0, "WT_INITIAL_MAX_STREAMS_BIDI")
	uni := flag.Int64("uni", 0, "WT_INITIAL_MAX_STREAMS_UNI")
	flag.Parse()

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	routes := http.NewServeMux()
	http3Server := &http3.Server{
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}}),
		Handler:   routes,
	}
	webtransport.ConfigureHTTP3Server(http3Server)
	server := &webtransport.Server{
		H3: http3Server,
		Config: &webtransport.Config{
			MaxIncomingData:       *data,
			MaxIncomingStreams:    *bidi,
			MaxIncomingUniStreams: *uni,
		},
	}
	serve := func(handle func(*webtransport.Session)) http.HandlerFunc {
		return func(response http.ResponseWriter, request *http.Request) {
			session, err := server.Upgrade(response, request)
			if err != nil {
				log.Print("refused: ", err)
				response.WriteHeader(http.StatusBadRequest)
				return
			}
			handle(session)
		}
	}
	routes.HandleFunc("/echo", serve(echo))
	routes.HandleFunc("/close", serve(closeAfterDatagram))

	go func() { log.Fatal(server.Serve(socket)) }()
	fmt.Println(socket.LocalAddr().(*net.UDPAddr).Port)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func echo(session *webtransport.Session) {
	ctx := session.Context()
	go func() {
		for {
			datagram, err := session.ReceiveDatagram(ctx)
			if err != nil {
				return
			}
			_ = session.SendDatagram(datagram)
		}
	}()
	go func() {
		for {
			stream, err := session.AcceptUniStream(ctx)
			if err != nil {
				return
			}
			go func() {
				if answer, err := session.OpenUniStreamSync(ctx); err == nil {
					copyAndClose(answer, stream)
				}
			}()
		}
	}()
	for {
		stream, err := session.AcceptStream(ctx)
		if err != nil {
			return
		}
		go copyAndClose(stream, stream)
	}
}

type sender interface {
	io.WriteCloser
	CancelWrite(webtransport.StreamErrorCode)
}

type receiver interface {
	io.Reader
	CancelRead(webtransport.StreamErrorCode)
}

func copyAndClose(to sender, from receiver) {
	if _, err := io.Copy(to, from); err == nil {
		_ = to.Close()
	} else {
		from.CancelRead(0)
		to.CancelWrite(0)
	}
}

func closeAfterDatagram(session *webtransport.Session) {
	if _, err := session.ReceiveDatagram(context.Background()); err == nil {
		_ = session.CloseWithError(7, "as you asked")
	}
}
