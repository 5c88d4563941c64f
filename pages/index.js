export async function getServerSideProps() {
  return { props: { text: await new Promise(resolve => setTimeout(resolve, 800, 'slow')) } }
}

export default function Page({ text }) {
  return <p>{text}</p>
}
