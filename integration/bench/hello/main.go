// Hello is what the start of a process is measured with.
package main

import "fmt"

func main() { fmt.Println("hello") }
